"""Load balancing loss for the routers of a mixture of experts."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from pipeline_lib.models.family_code import family_function

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


class RouterLoss:
    """The load balancing loss of the family's own code, weighted by `router_aux_loss_coef` of config.json.

    Fedus et al. 2022, "Switch Transformers", equations 4 to 6. Hooks record the routers' logits of the last forward
    pass, so the loss works with every head, not only with those that return it.
    """

    def __init__(self, model: "PreTrainedModel", routers: "Collection[nn.Module]", balance: Any):
        config: Any = model.config
        self.weight: float = config.router_aux_loss_coef
        self.experts = getattr(config, "num_local_experts", None) or config.num_experts
        self.chosen, self.balance = config.num_experts_per_tok, balance
        self.logits: list[Tensor] = []
        # cleared before each pass, so that only the logits of the last one are used
        model.register_forward_pre_hook(lambda module, args: self.logits.clear())
        for router in routers:
            router.register_forward_hook(lambda module, args, out: self.logits.append(out[0]))

    def compute_last_pass(self, mask: "Tensor | None") -> "Tensor":
        """Return the weighted loss of the last pass.

        `mask` [rows, tokens] is 1 for tokens that are not padding; None if there is none.
        """
        loss = self.weight * self.balance(tuple(self.logits), self.experts, self.chosen, mask)
        self.logits.clear()
        return loss


def router_loss(model: "PreTrainedModel", trained: Collection[str]) -> RouterLoss | None:
    """Return the loss of a model's routers; None if none of them is trained, or if the family has no such loss."""
    balance = family_function(model, "load_balancing_loss_func")
    recorder = (getattr(model, "_can_record_outputs", None) or {}).get("router_logits")
    if balance is None or recorder is None or not getattr(model.config, "router_aux_loss_coef", 0):
        return None
    routers = {name: module for name, module in model.named_modules() if isinstance(module, recorder.target_class)}
    prefixes = tuple(f"{router}." for router in routers)
    is_trained = any(name.startswith(prefixes) for name in trained)
    return RouterLoss(model, [*routers.values()], balance) if is_trained else None
