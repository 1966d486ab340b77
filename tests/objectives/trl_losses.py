"""TRL's own losses on a batch, to compare ours with: its trainers' methods without the data handling around them."""

from collections import defaultdict

import torch
from accelerate import Accelerator


def trl_loss(loss, model, rows, reference, beta, gamma=None):
    """The loss as TRL computes it, with its gradients in the model.

    rows: (prompt, first, second) token ids: chosen and rejected; for kto the answer, the one of another prompt and
    whether the answer is desirable. reference: the model to compare with.
    """
    model.zero_grad()
    compute = {"orpo": _reference_free, "simpo": _reference_free, "kto": _kto}.get(loss, _dpo)
    value = compute(loss, model, rows, reference, beta, gamma)
    value.backward()
    return value.detach()


def _trainer(kind, **attributes):
    trainer = object.__new__(kind)
    vars(trainer).update(accelerator=Accelerator(cpu=True), aux_loss_enabled=False, _tp_size=1, _total_train_tokens=0)
    vars(trainer).update(attributes, _metrics=defaultdict(lambda: defaultdict(list)))
    return trainer


def _fused(*models):
    from trl.trainer.utils import add_fused_lm_head

    for model in models:
        add_fused_lm_head(model, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))


def _unfused(*models):
    for model in models:
        vars(model).pop("forward", None)


def _dpo(loss, model, rows, reference, beta, gamma):
    from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer

    trainer = _trainer(
        DPOTrainer,
        **{"model": model, "ref_model": reference, "beta": beta, "precompute_ref_logps": False, "ld_alpha": None},
        **{"loss_types": [{"dpo": "sigmoid"}.get(loss, loss)], "loss_weights": [1.0], "label_smoothing": 0.0},
        **{"f_divergence_type": "reverse_kl", "use_weighting": False},
        args=type("Args", (), {"gradient_checkpointing_kwargs": None}),
    )
    batch = [dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), row, strict=True)) for row in rows]
    _fused(model, reference)
    try:
        return trainer._compute_loss(model, DataCollatorForPreference(0)(batch), False)
    finally:
        _unfused(model, reference)


def _kto(loss, model, rows, reference, beta, gamma):
    from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference, KTOTrainer

    trainer = _trainer(
        KTOTrainer,
        **{"model": model, "ref_model": reference, "beta": beta, "precompute_ref_logps": False, "loss_type": "kto"},
        **{"calculate_KL": True, "desirable_weight": 1.0, "undesirable_weight": 1.5},
        args=type("Args", (), {"gradient_checkpointing_kwargs": None}),
    )
    names = ("prompt_ids", "completion_ids", "KL_completion_ids", "label")
    batch = [dict(zip(names, row, strict=True)) for row in rows]
    _fused(model, reference)
    try:
        return trainer._compute_loss(model, DataCollatorForUnpairedPreference(0)(batch), False)
    finally:
        _unfused(model, reference)


def _reference_free(loss, model, rows, reference, beta, gamma):
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    trainer = _trainer(
        ORPOTrainer if loss == "orpo" else CPOTrainer,
        **{"is_encoder_decoder": False, "padding_value": 0, "pad_token_id": 0, "beta": beta, "loss_type": "simpo"},
        **{"simpo_gamma": gamma, "cpo_alpha": 0.0, "alpha": 0.0, "label_smoothing": 0.0},
    )
    batch = {}
    for side, place in (("chosen", 1), ("rejected", 2)):
        texts = [torch.tensor(row[0] + row[place]) for row in rows]
        labels = [torch.tensor([-100] * len(row[0]) + row[place]) for row in rows]
        for name, tensors, fill in (("input_ids", texts, 0), ("labels", labels, -100)):
            batch[f"{side}_{name}"] = torch.nn.utils.rnn.pad_sequence(tensors, True, fill)
        masks = [torch.ones(len(text), dtype=torch.long) for text in texts]
        batch[f"{side}_attention_mask"] = torch.nn.utils.rnn.pad_sequence(masks, True, 0)
    return trainer.get_batch_loss_metrics(model, batch)[0]
