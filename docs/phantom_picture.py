"""Draw docs/phantom.png: four subjects from mild to severe, inspiration and expiration.  python docs/phantom_picture.py"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from copdvae.phantom import people, study

SEVERITIES = (0.05, 0.4, 0.7, 0.97)
WINDOW_HU = (-1040, -500)  # shows the lungs; soft tissue is white


def main() -> None:
    figure, axes = plt.subplots(len(SEVERITIES), 6, figsize=(15, 10.4), layout="constrained")
    for number, (row, severity) in enumerate(zip(axes, SEVERITIES, strict=True), start=1):
        disease = people.draw_disease(study.generator(0, number, "disease"), severity)
        person = people.draw_person(study.generator(0, number, "person"), disease)
        _, scans = study.make_scans(study.Job(Path(), "S0001", number, 0, 96, "dicom", person, disease, False))
        (insp, lung, _, scanner), (exp, exp_lung, *_) = scans["insp"], scans["exp"]
        tall = scanner.spacing[0] / scanner.spacing[2]
        views = [
            (insp, insp[level(lung, 0.72)], 1, (-1040, 150), "inspiration"),
            (insp, insp[level(lung, 0.72)], 1, WINDOW_HU, "the same, lung window"),
            (insp, insp[level(lung, 0.3)], 1, WINDOW_HU, "lower lobes"),
            (insp, insp[::-1, insp.shape[1] // 2 + 6], tall, WINDOW_HU, "coronal"),
            (exp, exp[level(exp_lung, 0.6)], 1, WINDOW_HU, "expiration"),
            (exp, exp[::-1, exp.shape[1] // 2 + 6], tall, WINDOW_HU, "expiration, coronal"),
        ]
        for axis, (_, plane, aspect, (low, high), title) in zip(row, views, strict=True):
            axis.imshow(plane, cmap="gray", vmin=low, vmax=high, aspect=aspect)
            axis.set(xticks=[], yticks=[], title=title if number == 1 else "")
        row[0].set_ylabel(f"severity {severity:g}")
    figure.savefig(Path(__file__).with_name("phantom.png"), dpi=70)


def level(lung: np.ndarray, height: float) -> int:
    """The slice at `height` of the lungs, 0 at their base, 1 at their apex."""
    filled = np.flatnonzero((lung > 0.5).any(axis=(1, 2)))
    return int(filled[0] + height * (filled[-1] - filled[0]))


if __name__ == "__main__":
    main()
