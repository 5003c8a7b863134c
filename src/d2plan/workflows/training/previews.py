"""Pictures of a concept while it is learnt, and the sheet that shows it emerging."""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from d2plan.adapter.attach import adapter_aside, collect_deltas
from d2plan.adapter.file import Adapter
from d2plan.adapter.rows import adapter_rows
from d2plan.backbone.load import Backbone
from d2plan.backbone.sdxl import decode_latents, sample_steps
from d2plan.dislora.request import TrainRequest
from d2plan.media.images import Picture, contact_sheet, make_folder, read_image, write_png

PREVIEWS = 4
DRAWING = "drawing previews"


class Previews:
    """Draws the same few pictures again and again while a concept is learnt, as ``generate`` draws them.

    Args:
        backbone: the base.
        request: of the training.
        prompt: what to draw; it names the concept.
        folder: keeps the pictures, so that a training that goes on does not lose them.
        report: is told how far a drawing is.

    Attributes:
        seconds: what the last drawing took; 0 before the first.
    """

    def __init__(
        self,
        backbone: Backbone,
        request: TrainRequest,
        prompt: str,
        folder: Path,
        report: Callable[[str, int, int], None],
    ) -> None:
        self.backbone = backbone
        self.request = request
        self.prompt = prompt
        self.folder = folder
        self.report = report
        self.seconds = 0.0

    def draw(self, step: int) -> None:
        """Draw with what is learnt by now; the training finds the base as it left it.

        Args:
            step: how many are done; 0 draws with the base alone.

        Raises:
            FileError: a picture cannot be written.
        """
        begun = perf_counter()
        make_folder(self.folder)
        for path in self.folder.glob(f"{step:07}-*.png"):
            path.unlink()
        if step == 0:
            pictures = [draw_picture(self.backbone, None, self.prompt, seed) for seed in range(PREVIEWS)]
        else:
            adapter = _present_adapter(self.backbone, self.request)
            pictures = []
            with adapter_aside(self.backbone):
                for seed in range(PREVIEWS):
                    self.report(f"{DRAWING} after step {step}", seed, PREVIEWS)
                    pictures.append(draw_picture(self.backbone, adapter, self.prompt, seed))
            self.report(f"{DRAWING} after step {step}", PREVIEWS, PREVIEWS)
        for seed, picture in enumerate(pictures):
            write_png(self.folder / f"{step:07}-{seed}.png", picture)
        self.seconds = perf_counter() - begun

    def has(self, step: int) -> bool:
        """Tell whether a step's pictures are there.

        Args:
            step: how many were done.

        Returns:
            Whether all are.
        """
        return all((self.folder / f"{step:07}-{seed}.png").is_file() for seed in range(PREVIEWS))

    def sheet(self, last: int) -> Picture:
        """Lay all pictures on one sheet, a row for each time they were drawn.

        Args:
            last: rows after that step are of a training that went further before, and are left out.

        Returns:
            ``[h w 3]``, 0..255.
        """
        steps = sorted({int(path.name[:7]) for path in self.folder.glob("*-*.png")})
        rows = [step for step in steps if step <= last and self.has(step)]
        places = [(step, seed) for step in rows for seed in range(PREVIEWS)]
        pictures = [read_image(self.folder / f"{step:07}-{seed}.png") for step, seed in places]
        labels = [f"{f'step {step}' if step else 'base'}, seed {seed}" for step, seed in places]
        return contact_sheet(pictures, PREVIEWS, labels)


def draw_picture(backbone: Backbone, adapter: Adapter | None, prompt: str, seed: int) -> Picture:
    """Draw one picture with an adapter on the conditional row alone, as it is in a composition.

    Args:
        backbone: the base, nothing attached.
        adapter: None draws what ``generate`` draws.
        prompt: what to draw.
        seed: of the noise.

    Returns:
        ``[h w 3]``, 0..255.
    """
    rows = [None, adapter] if backbone.defaults.guidance_scale > 1 else [adapter]
    first, second = backbone.text_encoders
    with (
        adapter_rows(first, "text_encoder", [adapter]),
        adapter_rows(second, "text_encoder_2", [adapter]),
        adapter_rows(backbone.unet, "unet", rows),
    ):
        *_, last = sample_steps(backbone, prompt, seed=seed)
    return decode_latents(backbone, last.latents)[0]


def _present_adapter(backbone: Backbone, request: TrainRequest) -> Adapter:
    settings, choices = request.settings, request.choices
    return Adapter(
        name=request.name,
        class_word=choices.class_word,
        identifier=choices.identifier,
        base_fingerprint=backbone.fingerprint,
        rank=settings.rank,
        alpha=float(settings.rank),
        deltas=collect_deltas(backbone),
    )
