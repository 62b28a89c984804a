"""Approximate scores of blocks of rows, fast, with a proved bound on their error."""

import warnings
from typing import Literal, get_args

import numpy as np
import torch

from lib.errors import BadArgumentError
from lib.topk.scores import PREPARE_ROWS, largest_norm

Precision = Literal["float32", "bfloat16", "int8"]
SMALLEST = float(torch.finfo(torch.float32).tiny)
UNIT = 2.0**-24  # unit roundoff of float32
PACKED_WIDTH = 64  # torch's int8 kernel reads whole vector registers: columns are padded with zeros
PACKED_QUERIES = 4  # beyond so many the product, not memory, takes the time


class Scan:
    """A matrix of embeddings in the precision in which it is scanned."""

    def __init__(
        self,
        embeddings: np.ndarray,
        precision: Precision,
        device: str,
        norm: float | None = None,
    ) -> None:
        """Copy (N, d) embeddings in `precision` to `device`; float32 on the CPU is not copied.

        `norm`: what `largest_norm` says of them, where that is known already.
        Raises BadArgumentError for another precision, BadInputError for rows that are not finite.
        """
        if precision not in get_args(Precision):
            raise BadArgumentError(f"precision must be one of {get_args(Precision)}: {precision!r}")
        self.device = torch.device(device)
        self.precision = precision
        self._float32 = _tensor(embeddings)
        self._vectors = self._float32.to(self.device)
        self._scales = torch.empty(0, device=self.device)
        if precision != "float32":
            self._vectors = torch.empty(embeddings.shape, dtype=torch.bfloat16, device=self.device)
        if precision == "int8":
            width = -(-embeddings.shape[1] // PACKED_WIDTH) * PACKED_WIDTH
            self._vectors = torch.zeros(
                (len(embeddings), width), dtype=torch.int8, device=self.device
            )
            self._scales = torch.empty(len(embeddings), dtype=torch.bfloat16, device=self.device)
        self.norm = largest_norm(embeddings) if norm is None else norm
        self._residual = 0.0 if precision == "float32" else self._compress_all()

    def _compress_all(self) -> float:
        """Fill the copy that is scanned.

        Returns the largest distance of a row from what is scanned in its place, in float64.
        """
        residual = 0.0
        for start in range(0, len(self._float32), PREPARE_ROWS):
            part = slice(start, start + PREPARE_ROWS)
            rows = self._float32[part]
            scanned = self._compress(part, rows)
            away = torch.linalg.vector_norm(rows.double() - scanned, dim=1)
            residual = max(residual, float(away.max()))
        return residual

    def _compress(self, part: slice, rows: torch.Tensor) -> torch.Tensor:
        """Store a block of rows compressed; returns what it stands for, (B, d) float64."""
        if self.precision == "bfloat16":
            self._vectors[part] = rows.to(self.device, torch.bfloat16)
            return rows.to(torch.bfloat16).double()
        # A step too many, so that rounding the scale to bfloat16 never pushes a value beyond 127.
        scales = (rows.abs().amax(1) / 126).clamp_min(SMALLEST).bfloat16()
        whole = (rows / scales.float()[:, None]).round().clamp(-127, 127)
        self._vectors[part, : rows.shape[1]] = whole.to(self.device, torch.int8)
        self._scales[part] = scales.to(self.device)
        return whole.double() * scales.double()[:, None]

    def error_bounds(self, queries: np.ndarray) -> np.ndarray:
        """How far an approximate score may be from an exact one, (Q,) float64.

        With x̂ in place of x and q̂ in place of q, |q̂·x̂ − q·x| ≤ |q|·|x − x̂| + |q − q̂|·|x̂| by
        Cauchy–Schwarz. Computing it in float32 adds at most γ·|q̂|·|x̂|, γ = n·u / (1 − n·u), in
        whatever order it is summed (Higham, Accuracy and Stability of Numerical Algorithms, 2002,
        section 3.1); n = d + 4 covers the scale, the rounding of the exact score to float32 and
        that of the comparison as well.
        """
        sizes = np.linalg.norm(queries.astype(np.float64), axis=1)
        steps = (queries.shape[1] + 4) * UNIT
        gamma = steps / (1 - steps)
        scanned = self.norm + self._residual
        query_residuals = np.zeros(len(queries))
        rounding = 0.0
        if self._multiplies_in_bfloat16(len(queries)):
            rounded = torch.from_numpy(queries).bfloat16().double().numpy()
            query_residuals = np.linalg.norm(queries - rounded, axis=1)
            # The score comes as bfloat16: sum and scaled sum are rounded, 2**-9 each; doubled.
            rounding = 2.0**-7
        scanned_sizes = sizes + query_residuals
        bounds = sizes * self._residual + query_residuals * scanned
        bounds += (gamma + rounding) * scanned_sizes * scanned
        # Norms are themselves rounded; float32's smallest normal number covers underflow.
        return bounds * (1 + 1e-6) + SMALLEST * (queries.shape[1] + 4) * (1 + sizes)

    def _multiplies_in_bfloat16(self, queries: int) -> bool:
        packed = self.device.type == "cpu" and queries <= PACKED_QUERIES
        return self.precision == "bfloat16" or (self.precision == "int8" and packed)

    def prepare(self, queries: np.ndarray) -> torch.Tensor:
        """(Q, d) float32 queries as `scores` wants them."""
        kind = torch.bfloat16 if self._multiplies_in_bfloat16(len(queries)) else torch.float32
        padding = self._vectors.shape[1] - queries.shape[1]
        padded = torch.nn.functional.pad(torch.from_numpy(queries), (0, padding))
        return padded.to(self.device, kind)

    def scores(
        self, queries: torch.Tensor, rows: slice | np.ndarray, out: torch.Tensor
    ) -> torch.Tensor:
        """Approximate scores (Q, B) float32 of prepared queries and B rows; may be put in `out`."""
        vectors, scales = self._vectors, self._scales
        at = rows if isinstance(rows, slice) else torch.from_numpy(rows).to(self.device)
        vectors = vectors[at]
        if self.precision == "float32":
            return torch.mm(queries, vectors.T, out=out)
        if self.precision == "bfloat16":
            return out.copy_(torch.mm(queries, vectors.T))
        scales = scales[at]
        if queries.dtype == torch.bfloat16:
            return out.copy_(torch.ops.aten._weight_int8pack_mm(queries, vectors, scales))
        torch.mm(queries, vectors.float().T, out=out)
        return out.mul_(scales)


def _tensor(embeddings: np.ndarray) -> torch.Tensor:
    contiguous = np.ascontiguousarray(embeddings, np.float32)
    with warnings.catch_warnings():
        # Memory-mapped embeddings are read-only; nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(contiguous)
