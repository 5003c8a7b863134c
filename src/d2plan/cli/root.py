"""All commands by name, and as typer knows them; only the one that is asked for is imported."""

from importlib import import_module
from types import MappingProxyType

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from d2plan import __version__

# Name -> (module that holds a function `command`, or a typer `app` where there are commands below it; one line of
# help). The help stands here so that listing the commands imports none of them.
COMMANDS = MappingProxyType(
    {
        "train": ("d2plan.cli.train", "Learn a concept from a folder of images."),
        "compose": ("d2plan.cli.compose", "Make the picture that a scene file asks for."),
        "series": ("d2plan.cli.series", "Make pictures that differ only in what their variants say."),
        "reproduce": ("d2plan.cli.reproduce", "Make a picture again from what stands inside it."),
        "generate": ("d2plan.cli.generate", "Make a picture from a prompt with the base alone."),
        "plan": ("d2plan.cli.plan", "Turn a sentence or a story into a plan of moments."),
        "video": ("d2plan.cli.video", "Make a video from a plan."),
        "demo": ("d2plan.cli.demo", "Train two characters live and show them in a gallery."),
        "score": ("d2plan.cli.score", "Judge the pictures of run folders."),
        "bench": ("d2plan.cli.bench", "Compare methods side by side, with the paper's tables."),
        "world": ("d2plan.cli.world", "Draw scenes, concept folders and clips, with their truth."),
        "concepts": ("d2plan.cli.concepts", "List the adapters of a folder."),
        "adapter": ("d2plan.cli.adapter", "Say what an adapter file holds, verify it, convert it."),
        "inspect": ("d2plan.cli.inspect", "Look inside: where the words of a prompt look."),
        "doctor": ("d2plan.cli.doctor", "Say what works on this machine and what is missing."),
    }
)


class LazyCommand(TyperCommand):
    """Stands for a command in the listing and turns into the real one when its arguments are parsed."""

    def make_context(  # type: ignore[override]  # typer.Context is the public name of typer's own context
        self, info_name: str | None, args: list[str], parent: typer.Context | None = None, **extra: object
    ) -> typer.Context:
        """Import the command's module and let the real command parse its arguments.

        Args:
            info_name: the command's name as typed.
            args: its arguments.
            parent: the context of ``d2plan`` itself.
            **extra: settings of the context, passed on.

        Returns:
            The real command's context.
        """
        name = str(self.name)
        real = load_command(name)
        return real.make_context(info_name or name, args, parent=parent, **extra)  # type: ignore[arg-type, return-value]


class LazyGroup(TyperGroup):
    """The group of all commands in the order of the table."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """List the names in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> LazyCommand | None:  # type: ignore[override]
        """Give the stand-in of a command, None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        return LazyCommand(cmd_name, help=COMMANDS[cmd_name][1], rich_markup_mode=None)


def load_command(name: str) -> TyperCommand | TyperGroup:
    """Import a command.

    Args:
        name: one of the table's names.

    Returns:
        The command, ready to parse arguments.
    """
    module_name, help_line = COMMANDS[name]
    module = import_module(module_name)
    app = getattr(module, "app", None)
    if app is None:
        app = _make_app()
        app.command(name=name)(module.command)
    for function in [one.callback for one in app.registered_commands]:
        _leave_reading_to_us(function)
    command = get_command(app)
    command.help = command.help or help_line
    return command  # type: ignore[return-value]  # typer makes one of these two


def build_root() -> TyperGroup:
    """Make the group of all commands.

    Returns:
        What parses the arguments of ``d2plan``.
    """
    app = _make_app(cls=LazyGroup)
    app.callback(invoke_without_command=True)(_root)
    return get_command(app)  # type: ignore[return-value]  # an app with a callback is a group


def _leave_reading_to_us(function: object) -> None:
    """Switch typer's own look at paths off: what it says of one that may not be read names no remedy."""
    for annotation in getattr(function, "__annotations__", {}).values():
        for parameter in getattr(annotation, "__metadata__", ()):
            parameter.readable = False


def _make_app(cls: type[TyperGroup] | None = None) -> typer.Typer:
    # Plain help and plain errors: one sentence stays one sentence, and `d2plan --help` need not load rich.
    return typer.Typer(cls=cls, rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)


def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and leave."),
) -> None:
    """Several learnt characters in one picture, each itself, each doing what its own prompt says."""
    if version:
        typer.echo(f"d2plan {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
