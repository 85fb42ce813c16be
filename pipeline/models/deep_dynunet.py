"""A DynUNet that gives its coarser answers too while it trains.

MONAI's own enlarges them to full size and stacks them: for three coarser outputs that is four times
the logits and the loss. Here they keep their size, and only training computes them.
"""

from collections.abc import Mapping
from typing import Any

from monai.networks.nets.dynunet import DynUNet
from torch import Tensor, nn
from typing_extensions import override


class DeepDynUNet(DynUNet):
    """In training a list of logits, the full ones first; in evaluation the full ones alone.

    Its weights are those of a DynUNet of the same arguments, and the further heads.

    Args:
        arguments: Of MONAI's DynUNet.
        n_deep_outputs: Coarser outputs, the finest levels below the full one.
    """

    def __init__(self, arguments: Mapping[str, Any], n_deep_outputs: int) -> None:
        super().__init__(**arguments)
        self.deep_heads = nn.ModuleList(
            self.get_output_block(level) for level in range(1, n_deep_outputs + 1)
        )
        self.deep_heads.apply(self.initialize_weights)

    @override
    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Compute logits.

        Args:
            x: Shape (batch, channel, i, j, k).

        Returns:
            Logits (batch, output, i, j, k); in training a list that begins with them.
        """
        if not self.training:
            logits: Tensor = super().forward(x)  # type: ignore[no-untyped-call]  # of MONAI
            return logits
        skipped: list[Tensor] = []
        for block in (self.input_block, *self.downsamples):
            x = block(x)
            skipped.append(x)
        x = self.bottleneck(x)
        levels: list[Tensor] = []
        for block in self.upsamples:
            x = block(x, skipped.pop())
            levels.append(x)
        finest, *coarser = reversed(levels)
        # There is one head less than there are coarser levels, or fewer still.
        heads = zip(self.deep_heads, coarser, strict=False)
        return [self.output_block(finest), *(head(level) for head, level in heads)]
