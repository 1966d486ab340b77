"""Keep the experts of a mixture busy alike: what a router's choices add to the loss."""

import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


class RouterLoss:
    """The load balancing loss of the family's own code, weighted as config.json says (`router_aux_loss_coef`).

    Fedus et al. 2022, "Switch Transformers", equations 4 to 6. It is taken from what the routers put out in the model's
    last pass, so that every head has it.
    """

    def __init__(self, model: "PreTrainedModel", routers: "Collection[nn.Module]", balance: Any):
        config: Any = model.config
        self.weight: float = config.router_aux_loss_coef
        self.experts = getattr(config, "num_local_experts", None) or config.num_experts
        self.chosen, self.balance = config.num_experts_per_tok, balance
        self.logits: list[Tensor] = []
        model.register_forward_pre_hook(lambda module, args: self.logits.clear())
        for router in routers:
            router.register_forward_hook(lambda module, args, out: self.logits.append(out[0]))

    def of_last_pass(self, mask: "Tensor") -> "Tensor":
        """The weighted loss; `mask` [rows, tokens] says which tokens are real."""
        loss = self.weight * self.balance(tuple(self.logits), self.experts, self.chosen, mask)
        self.logits.clear()
        return loss


def router_loss(model: "PreTrainedModel", trained: Collection[str]) -> RouterLoss | None:
    """The loss of a model's routers where they are trained, and their family has one."""
    family = sys.modules[type(model).__module__]
    balance = getattr(family, "load_balancing_loss_func", None)
    recorder = (getattr(model, "_can_record_outputs", None) or {}).get("router_logits")
    if balance is None or recorder is None or not getattr(model.config, "router_aux_loss_coef", 0):
        return None
    routers = {name: module for name, module in model.named_modules() if isinstance(module, recorder.target_class)}
    learning = any(name.startswith(tuple(f"{router}." for router in routers)) for name in trained) if routers else False
    return RouterLoss(model, [*routers.values()], balance) if learning else None
