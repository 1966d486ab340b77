"""Fixtures of a store in a bucket, on a real S3 server."""

import uuid

import pytest


@pytest.fixture(scope="session")
def s3_server():
    """An S3 server on loopback."""
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed: there is no S3 server to test on")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch):
    """The URL of a folder in an empty bucket, and the environment to reach it, for child processes too."""
    import s3fs

    name = f"bucket-{uuid.uuid4().hex}"
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}/team/store"
    s3fs.S3FileSystem.clear_instance_cache()
