"""The command ``completion``: how bash, zsh and fish ask for what they offer where a person presses Tab.

Each is click's own class with a script of ours, which completes ``cl-engine`` and ``./run.py``, knows words that go on behind
what is offered (``--set train.``), and in bash parts no word at ``=`` and ``:``.
"""

from __future__ import annotations

import os
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

VARIABLE = "_CL_ENGINE_COMPLETE"  # what is set where a shell asks
BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' completion response type value
    response=$(env COMP_WORDS="${COMP_LINE:0:COMP_POINT}" COMP_CWORD="${COMP_WORDS[COMP_CWORD]}" \\
%(complete_var)s=bash_complete "$1" 2>/dev/null)
    COMPREPLY=()
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            open) compopt -o nospace; COMPREPLY+=("$value") ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done
}
complete -o nosort -F %(complete_func)s cl-engine run.py
"""
ZSH = """\
#compdef cl-engine run.py
%(complete_func)s() {
    local -a plain described open opened response
    local type key descr
    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \\
%(complete_var)s=zsh_complete ${~words[1]} 2>/dev/null)}")
    for type key descr in ${response}; do
        case $type in
            dir) _path_files -/ ;;
            file) _path_files -f ;;
            open) if [[ $descr == "_" ]]; then open+=("$key"); else opened+=("$key:$descr"); fi ;;
            plain) if [[ $descr == "_" ]]; then plain+=("$key"); else described+=("$key:$descr"); fi ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#opened )) && _describe -V unsorted opened -U -S ''
    (( $#plain )) && compadd -U -V unsorted -a plain
    (( $#open )) && compadd -U -S '' -V unsorted -a open
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s cl-engine run.py
fi
"""
FISH = """\
function %(complete_func)s
    set -l typed (commandline -opc)
    set -lx %(complete_var)s fish_complete
    set -lx COMP_WORDS (commandline -cp)
    set -lx COMP_CWORD (commandline -t)
    for completion in (env $typed[1] 2>/dev/null)
        set -l metadata (string split -m 1 "," $completion)
        switch $metadata[1]
            case dir
                __fish_complete_directories $metadata[2]
            case file
                __fish_complete_path $metadata[2]
            case plain open
                echo $metadata[2]
        end
    end
end
complete --no-files --command cl-engine --arguments "(%(complete_func)s)"
complete --no-files --command run.py --arguments "(%(complete_func)s)"
"""


@add_completion_class
class Bash(BashComplete):
    """Completion in bash, which parts words at ``=`` and ``:``: it is asked for the line, and told the rest of a word.

    >>> "complete -o nosort" in Bash.source_template
    True
    """

    source_template = BASH
    before = ""  # what bash takes for earlier words, of the word that is completed

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is completed, and what there is of that."""
        line, word = os.environ["COMP_WORDS"], os.environ["COMP_CWORD"]
        words = split_arg_string(line)
        incomplete = words.pop() if len(words) > 1 and not line[-1:].isspace() else ""
        word = "" if word in ("=", ":") else word
        self.before = incomplete.removesuffix(word) if incomplete.endswith(word) else ""
        return words[1:], incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """Return the line that the script reads."""
        value = item.value.removeprefix(self.before).replace(" ", "\\ ")
        return f"{item.type},{value}"


@add_completion_class
class Zsh(ZshComplete):
    """Completion in zsh.

    >>> "compdef" in Zsh.source_template
    True
    """

    source_template = ZSH


@add_completion_class
class Fish(FishComplete):
    """Completion in fish.

    >>> "complete --no-files" in Fish.source_template
    True
    """

    source_template = FISH


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that lets a SHELL complete commands, scenarios, strategies, options and runs with Tab.

    It is for `cl-engine` and for `./run.py`. This line enables it, in ~/.bashrc, ~/.zshrc (behind compinit) or
    ~/.config/fish/config.fish:

    \b
      eval "$(cl-engine completion bash)"
      eval "$(cl-engine completion zsh)"
      cl-engine completion fish | source
    """
    asked: Any = get_completion_class(shell)
    click.echo(asked(ctx.find_root().command, {}, "cl-engine", VARIABLE).source())
