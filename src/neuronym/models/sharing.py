"""Model folders on the Hugging Face hub: ``from_pretrained``, ``save_pretrained``, ``push_to_hub``.

A folder that ``train`` made, one that ``save_pretrained`` made and a hub repository are the same
thing: ``config.json``, ``model.safetensors`` and ``metrics.json``; the card is ``README.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, snapshot_download
from huggingface_hub.errors import HFValidationError
from torch import Tensor, nn

from neuronym.errors import InputError, MissingError, NeuronymError, UnavailableError
from neuronym.files import read_json, write_json
from neuronym.models.base import LoadedModel, LoadOptions
from neuronym.models.card import card_metadata, card_text
from neuronym.models.folder import (
    CONFIG,
    WEIGHTS,
    ModelConfig,
    load_folder,
    read_config,
    save_folder,
)
from neuronym.vision_text.hub import one_line, snapshot

__all__ = ["HubModel", "load_hf"]

METRICS = "metrics.json"
_FILES = (CONFIG, WEIGHTS, METRICS, "README.md")
_KNOWN_CODE = ("timm:", "torchvision:", "pocket:", "neuronym.models.")


class HubModel(nn.Module, ModelHubMixin, library_name="neuronym"):
    """A model folder as a module that can be shared.

    Attributes:
        network: The network; its weights are what is saved.
        config: Content of ``config.json``.
        metrics: Content of ``metrics.json``; empty where there is none.
        loaded: The network with its transform and class names, for dissecting and explaining.
    """

    def __init__(
        self,
        network: nn.Module,
        config: ModelConfig,
        *,
        metrics: dict[str, Any] | None = None,
        spec: str = "",
    ) -> None:
        """Wrap a network; :meth:`from_pretrained` is the usual way.

        Args:
            network: What ``config`` describes.
            config: Its configuration.
            metrics: What was measured.
            spec: Where it comes from: a folder or ``hf:OWNER/NAME``.
        """
        super().__init__()
        self.network = network
        self.config = config
        self.metrics = dict(metrics or {})
        self.spec = spec

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) float32 → (N, classes) logits."""
        logits: Tensor = self.network(images)
        return logits

    @property
    def loaded(self) -> LoadedModel:
        """The network with what is needed to run it; puts it in evaluation mode."""
        return LoadedModel(
            module=self.network,
            transform=self.config.preprocessing,
            class_names=self.config.class_names,
            spec=self.spec or self.config.model,
            input_size=self.config.preprocessing.input_size,
        )

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
    ) -> HubModel:
        """Load a folder, or a repository ``OWNER/NAME`` of the hub, in evaluation mode.

        A folder is never looked up on the hub, and a repository that is whole in the local cache
        needs no network. A repository may only name architectures of timm, torchvision, pocket
        and this package: a factory of one's own is loaded from a folder.

        Raises:
            MissingError: A path that does not exist.
            UnreadableError: The folder or repository is not a whole model folder.
            UnavailableError: The hub cannot be reached or does not hand it out.
            InputError: The name is not one of a repository, or it wants other code.
        """
        name = str(pretrained_model_name_or_path)
        local = Path(name).is_dir()
        if not local:
            if name.startswith((".", "/", "~")) or name.count("/") != 1:
                raise MissingError(
                    f"{name!r} is neither a model folder nor a repository OWNER/NAME of the hub"
                )
            plain = (revision, token, cache_dir) == (None, None, None)
            arguments: dict[str, Any] = {
                "revision": revision,
                "token": token,
                "cache_dir": cache_dir,
                "force_download": force_download,
                "local_files_only": local_files_only,
            }
            asked = force_download or local_files_only or not plain
            folder = _download(name, arguments) if asked else _snapshot(name)
        else:
            folder = Path(name)
        return cls._from_folder(folder, spec=name if local else f"hf:{name}", trusted=local)

    @classmethod
    def _from_folder(cls, folder: Path, *, spec: str, trusted: bool) -> HubModel:
        config = read_config(folder)
        if not trusted:
            _check_code(config, spec)
        metrics = folder / METRICS
        return cls(
            load_folder(folder).module,
            config,
            metrics=read_json(metrics, what="metrics") if metrics.is_file() else None,
            spec=spec,
        ).eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        save_folder(save_directory, self.network.state_dict(), self.config)
        if self.metrics:
            write_json(save_directory / METRICS, self.metrics)

    def push_to_hub(  # type: ignore[override]
        self,
        repo_id: str,
        *,
        commit_message: str = "Add a model made by neuronym",
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
    ) -> str:
        """Upload the model folder with its card; arguments are those of the mixin.

        Returns:
            Address of the commit.

        Raises:
            UnavailableError: The hub cannot be reached or refuses.
            InputError: ``repo_id`` is not a valid name.
        """
        try:
            return str(
                super().push_to_hub(
                    repo_id,
                    commit_message=commit_message,
                    private=private,
                    token=token,
                    branch=branch,
                    create_pr=create_pr,
                    model_card_kwargs={"repository": repo_id},
                )
            )
        except NeuronymError:
            raise
        except HFValidationError as error:
            raise InputError(f"hub repository {repo_id!r}: {one_line(error)}") from error
        except Exception as error:  # the hub's own errors and those of its HTTP library
            raise UnavailableError(
                f"the model could not be pushed to {repo_id!r}: {one_line(error)}"
            ) from error

    def generate_model_card(self, *, repository: str | None = None) -> ModelCard:
        """Return the card: what the model is, its metrics, configuration, and how to load it."""
        header = ModelCardData(**card_metadata(self.config, self.metrics)).to_yaml()
        body = card_text(self.config, self.metrics, repository=repository or "FOLDER")
        return ModelCard(f"---\n{header}\n---\n\n{body}")


def load_hf(name: str, options: LoadOptions) -> LoadedModel:
    """Load ``hf:OWNER/NAME``, a model that ``push_to_hub`` put there.

    Raises:
        NeuronymError: As in :meth:`HubModel.from_pretrained`.
        InputError: Another number of classes or another size is asked.
    """
    loaded = HubModel.from_pretrained(name).loaded
    classes = None if loaded.class_names is None else len(loaded.class_names)
    if options.num_classes not in (None, classes):
        raise InputError(f"model 'hf:{name}' has {classes} classes, not {options.num_classes}")
    if options.input_size not in (None, loaded.input_size):
        raise InputError(f"model 'hf:{name}' takes {loaded.input_size}, not {options.input_size}")
    return loaded


def _check_code(config: ModelConfig, spec: str) -> None:
    specs = [config.model]
    nested = config.head.backbone if config.head is not None else None
    while nested is not None:
        specs.append(str(nested.get("model")))
        nested = (nested.get("head") or {}).get("backbone")
    for each in specs:
        if not each.startswith(_KNOWN_CODE):
            raise InputError(
                f"{spec} names the code {each!r}, which is not run from the hub; download the "
                "repository and load its folder, if you trust it"
            )


def _snapshot(name: str) -> Path:
    def lacks(folder: Path) -> str | None:
        return next((each for each in (CONFIG, WEIGHTS) if not (folder / each).is_file()), None)

    return snapshot(name, spec=f"model 'hf:{name}'", lacks=lacks, weights=[[WEIGHTS]])


def _download(name: str, arguments: dict[str, Any]) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES), **arguments))
    except HFValidationError as error:
        raise InputError(f"model 'hf:{name}': {one_line(error)}") from error
    except Exception as error:  # the hub's own errors and those of its HTTP library
        raise UnavailableError(
            f"model 'hf:{name}' could not be fetched: {one_line(error)}"
        ) from error
