"""All experiments, in the order of the results page."""

from __future__ import annotations

from experiments import (
    audible_heatmaps,
    corpus,
    faithfulness,
    gender_hypothesis,
    spectrogram_relevance,
    table1,
    training_curves,
    waveform_relevance,
)

EXPERIMENTS = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (
        corpus,
        table1,
        training_curves,
        spectrogram_relevance,
        waveform_relevance,
        gender_hypothesis,
        faithfulness,
        audible_heatmaps,
    )
}
