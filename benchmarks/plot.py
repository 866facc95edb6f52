"""The plot: throughput by system and number of cards."""

from statistics import median

import matplotlib.pyplot as plt

from benchmarks.compare import key_of
from benchmarks.figures import rates
from benchmarks.plan import CORES, Plan
from benchmarks.results import Results

_SYSTEMS = {"plain": "plain consumer", "score": "score job", "udf": "score job, spark_udf"}
_COLOURS = {"plain": "#9a9a9a", "score": "#1f6fb2", "udf": "#e09f3e"}


def draw(plan: Plan, results: Results) -> bool:
    """Draw what was measured beside the report; returns whether there was anything."""
    sizes = [
        size
        for size in plan.batch_rows
        if any(results.get(key_of(cards, size, s)) for cards in plan.cards for s in _SYSTEMS)
    ]
    if not sizes:
        return False
    figure, axes = plt.subplots(
        1, len(sizes), figsize=(5.2 * len(sizes), 4), squeeze=False, layout="constrained"
    )
    for axis, size in zip(axes[0], sizes, strict=True):
        for number, (system, label) in enumerate(_SYSTEMS.items()):
            found = [rates(results.get(key_of(cards, size, system))) for cards in plan.cards]
            heights = [median(values) if values else 0.0 for values in found]
            low = [h - min(v) if v else 0.0 for h, v in zip(heights, found, strict=True)]
            high = [max(v) - h if v else 0.0 for h, v in zip(heights, found, strict=True)]
            places = [place + (number - 1) * 0.27 for place in range(len(plan.cards))]
            axis.bar(
                places, heights, 0.25, label=label, color=_COLOURS[system], yerr=[low, high],
                capsize=3,
            )  # fmt: skip
        axis.set_title(f"{size:,} rows a batch, {CORES} cores", loc="left", fontsize=10)
        axis.set_xticks(range(len(plan.cards)), [f"{cards:,}" for cards in plan.cards])
        axis.set_xlabel("cards")
        axis.set_ylabel("payments a second")
        axis.yaxis.set_major_formatter("{x:,.0f}")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(frameon=False)
    figure.savefig(plan.report.with_suffix(".png"), dpi=130)
    plt.close(figure)
    return True
