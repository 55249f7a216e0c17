"""FC of recordings: of time series in a file, and of images by nilearn where it is installed."""

from pathlib import Path

import numpy as np

from ..cohort.subjects import Subject
from .matrices import load_array, load_fc
from .outcome import Refused

# Columns that say where FC comes from, in order of preference.
SOURCES = ("fc", "timeseries", "bold")


def fc_of_recording(subject: Subject, atlas: str | None = None):
    """FC of a subject: of its file, or of its recording.

    Parameters
    ----------
    subject : Subject
        With ``fc``, or ``timeseries`` (a file of shape (n_time, n_node)), or ``bold`` (an image of four dimensions, and
        ``confounds`` if there are any).
    atlas : str, optional
        Image of the regions, whose labels are in the order of the connectome.

    Returns
    -------
    array_like, shape (n_node, n_node)

    Raises
    ------
    Refused
        A file cannot be read or used; nilearn is not installed.
    """
    if "fc" in subject:
        return load_fc(str(subject["fc"]), "fc")
    if "timeseries" in subject:
        return _fc(load_array(str(subject["timeseries"]), "timeseries"), f"timeseries {subject['timeseries']}")
    if "bold" not in subject:
        raise Refused(f"{subject.label}: none of the columns {', '.join(SOURCES)}")
    if atlas is None:
        raise Refused("--atlas: none; an image needs the image of the regions")
    return _fc(_signals(subject["bold"], atlas, subject.get("confounds")), f"bold {subject['bold']}")


def recording_problems(subject: Subject, atlas: str | None) -> list[str]:
    """Problems of the recording of a subject that can be found without reading an image.

    Parameters
    ----------
    subject, atlas
        As of `fc_of_recording`.
    """
    if "timeseries" in subject:
        try:
            fc_of_recording(subject)
        except Refused as refused:
            return list(refused.reasons)
        return []
    if "bold" not in subject:
        return [f"none of the columns {', '.join(SOURCES)}"]
    paths = {"bold": subject["bold"], "confounds": subject.get("confounds"), "--atlas": atlas}
    problems = [f"{name} {path}: no such file" for name, path in paths.items() if path and not Path(path).exists()]
    return problems + ([] if atlas else ["--atlas: none; an image needs the image of the regions"])


def _signals(image, atlas, confounds):
    try:
        from nilearn.maskers import NiftiLabelsMasker
    except ImportError as error:
        raise Refused(f"bold {image}: FC of an image needs nilearn: pip install nilearn ({error})") from error
    masker = NiftiLabelsMasker(labels_img=atlas, standardize=None)
    return masker.fit_transform(image, confounds=confounds)


def _fc(signals, name):
    signals = np.asarray(signals, float)
    if signals.ndim != 2 or signals.shape[0] < 3:
        raise Refused(f"{name}: shape {signals.shape}; give (n_time, n_node), of at least 3 times")
    constant = np.flatnonzero(~(np.ptp(signals, axis=0) > 0.0))
    if constant.size or not np.isfinite(signals).all():
        what = f"constant in the columns {constant[:10].tolist()}" if constant.size else "not finite"
        raise Refused(f"{name}: the signals are {what}")
    return np.corrcoef(signals, rowvar=False)
