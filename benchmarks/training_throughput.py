"""How fast is training? The closed form, and triples a second of ranking in steady state.

  python -m benchmarks.training_throughput --json throughput.json

100,000 synthetic images of 512 values with 5 captions each, as in COCO with ResNet18. An epoch is
that of training (`lib.embedder.fitting.run_epoch`: drawing, gathering, dropout, loss, gradient,
Adam), in float32. The products alone are the four matrix products that any implementation has to do
in each of its steps, in the same precision, batch size and thread count, on rows that already lie
in order: embed the images, score them against the captions, and back through both.

The closed form is all of it: moments, the paths of ridge, and every choice judged by images left
out, with a drawn prior.

A triple is a caption, its good image and a bad one (or an image, its good caption and a bad one).
Of a batch of B pairs all 2·B·(B - 1) triples count, since each adds its hinge to the loss; captions
per second is the figure for comparing with a recipe of one drawn triple a caption.
"""

import numpy as np
import torch

import benchmarks
from benchmarks import seconds
from lib.embedder.closed_form import judge
from lib.embedder.dataset import Examples, Share, Standardisation, TrainingData
from lib.embedder.fitting import FitSettings, run_epoch
from lib.embedder.layer import EmbedderLayer


def synthetic(images: int, captions: int, size: int, dimension: int) -> Share:
    """Standardised descriptors and unit text embeddings, at random."""
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(images * captions, dimension, generator=generator)
    return Share(
        torch.randn(images, size, generator=generator),
        torch.nn.functional.normalize(texts, dim=1),
        torch.arange(images).repeat_interleave(captions),
        torch.zeros(size),
        torch.ones(size),
    )


def products(share: Share, matrix: torch.Tensor, batch: int, steps: int) -> None:
    """The matrix products of one epoch, and nothing else."""
    for step in range(steps):
        part = slice(step * batch, step * batch + batch)
        inputs, texts = share.inputs[part], share.texts[part]
        images = inputs @ matrix
        scores = texts @ images.T
        slope = scores.T @ texts
        torch.mm(inputs.T, slope)


def with_prior(share: Share) -> TrainingData:
    """What the closed form takes besides, drawn."""
    none = np.empty(0, np.int64)
    nothing = Examples(np.empty((0, share.texts.shape[1]), np.float32), none, none)
    prior = np.random.default_rng(0).standard_normal((share.inputs.shape[1], share.texts.shape[1]))
    plain = Standardisation(share.mean.numpy(), share.scale.numpy())
    return TrainingData(nothing, nothing, lambda rows: rows, plain, prior=prior.astype(np.float32))


def main() -> None:
    """Print the figures."""
    parser = benchmarks.parser(__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--captions", type=int, default=5)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--dimension", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7, help="the median counts")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    share = synthetic(options.images, options.captions, options.size, options.dimension)
    settings = FitSettings()
    batch, model = settings.batch_size, EmbedderLayer(options.size, options.dimension)
    steps = max(1, round(options.images / batch))
    batch = options.images // steps
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    matrix = torch.randn(options.size, options.dimension)
    epoch = seconds(lambda: run_epoch(model.dense, optimizer, share, settings, 1), options.repeats)
    bare = seconds(lambda: products(share, matrix, batch, steps), options.repeats)
    data = with_prior(share)
    closed = seconds(lambda: judge(share, data).solve(), min(3, options.repeats))
    triples = steps * 2 * batch * (batch - 1)
    report = {
        "triples_per_epoch": triples,
        "seconds_per_epoch": {"best": min(epoch), "median": float(np.median(epoch))},
        "seconds_of_products": {"best": min(bare), "median": float(np.median(bare))},
        "triples_per_second": triples / float(np.median(epoch)),
        "captions_per_second": steps * batch / float(np.median(epoch)),
        "seconds_of_closed_form": float(np.median(closed)),
        "times_the_products": float(np.median(epoch)) / float(np.median(bare)),
        "threads": options.threads,
    }
    print(
        f"{triples:,} triples an epoch of {steps} batches of {batch}:\n"
        f"{report['triples_per_second']:,.0f} triples/s "
        f"({report['captions_per_second']:,.0f} captions/s, one an image and epoch),\n"
        f"{report['times_the_products']:.2f} × the time of the matrix products alone;\n"
        f"the closed form takes {report['seconds_of_closed_form']:.1f} s"
    )
    benchmarks.write_json(options.json, report)


if __name__ == "__main__":
    main()
