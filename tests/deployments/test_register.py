"""What `tunesmith up` registers, on a real server. `pytest tests/deployments/test_register.py`."""

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.up.register import _process_pool
from pipeline_lib.errors import RecipeError

pytestmark = pytest.mark.server


def test_only_a_folder_with_its_own_state_takes_over_the_pool_of_another(running, tmp_path):
    def works_in():
        template = running.ask("/work_pools/tunesmith", method="GET")["base_job_template"]
        return template["variables"]["properties"]["working_dir"]["default"]

    with temporary_settings({PREFECT_API_URL: f"{running.prefect}/api"}):
        with pytest.raises(RecipeError, match=f"works in {running.folder}"):
            _process_pool(tmp_path, 1, moved=False)
        _process_pool(tmp_path, 1, moved=True)
        assert works_in() == str(tmp_path)
        _process_pool(running.folder, 1, moved=True)
    assert works_in() == str(running.folder)


def test_the_address_of_mlflow_is_the_table_of_our_runs(running):
    assert f"MLflow   {running.mlflow}/#/experiments/1/runs?workflowType=machine_learning\n" in running.said
