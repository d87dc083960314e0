# bash completion for arenascope                           -*- shell-script -*-
# SPDX-License-Identifier: GPL-3.0-or-later
# Commands, options and their choices are asked of the program: `arenascope help words`.

_arenascope_words() {
    # option|command|command-option|word <TAB> name <TAB> argument <TAB> choices or summary
    [[ -n ${_arenascope_table-} ]] || _arenascope_table=$("${1:-arenascope}" help words 2>/dev/null)
    printf '%s\n' "$_arenascope_table"
}

_arenascope_value() { # what may follow option $1 of command $2
    local kind name arg choices
    while IFS=$'\t' read -r kind name arg choices; do
        [[ $kind == option && $name == "$1" || $kind == command-option && $name == "$2 $1" ]] || continue
        case $choices in
            *'|'*) COMPREPLY=($(compgen -W "${choices//|/ }" -- "$cur")) ;;
            *)
                case $arg in
                    PID) COMPREPLY=($(compgen -W "$(cd /proc && echo [0-9]*)" -- "$cur")) ;;
                    FILE) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")) ;;
                    DIR) compopt -o filenames; COMPREPLY=($(compgen -d -- "$cur")) ;;
                esac ;;
        esac
        return
    done < <(_arenascope_words)
}

_arenascope() {
    local cur prev words=() cword=0 command="" i kind name arg rest list=""
    COMPREPLY=()
    if declare -F _init_completion >/dev/null; then
        _init_completion -n = || return
    else
        cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
        words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
        # bash itself breaks --name=value at the =
        if [[ $cur == = ]]; then
            cur=""
        elif [[ $prev == = && cword -gt 1 ]]; then
            prev=${COMP_WORDS[COMP_CWORD - 2]}
        fi
    fi
    local names
    names=$(_arenascope_words "${words[0]}" | while IFS=$'\t' read -r kind name _; do
        [[ $kind == command ]] && echo "$name"
    done)
    for ((i = 1; i < cword; i++)); do
        case ${words[i]} in
            -p | -c | -e | -x | -o | -f | -ex | --pid | --core | --exe | --output | --script | --format | --root | \
                --libc | --debug-dir | --eval-command) ((i++)) ;;
            -*) ;;
            *) [[ $'\n'$names$'\n'help$'\n' == *$'\n'${words[i]}$'\n'* ]] && command=${words[i]} && break ;;
        esac
    done
    case $prev in
        -p) prev=--pid ;;
        -c) prev=--core ;;
        -e) prev=--exe ;;
        -x) prev=--script ;;
        -o) prev=--output ;;
        -f) prev=--format ;;
    esac
    if [[ $cur == --*=* ]]; then
        prev=${cur%%=*} cur=${cur#*=}
        _arenascope_value "$prev" "$command"
        return
    fi
    if [[ $prev == -* && $cur != -* ]]; then
        _arenascope_value "$prev" "$command"
        [[ ${#COMPREPLY[@]} -eq 0 ]] || return
    fi
    if [[ $cur == -* ]]; then
        while IFS=$'\t' read -r kind name arg rest; do
            case $kind in
                option) list+=" $name${arg:+=}" ;;
                command-option) [[ -n $command && $name == "$command "* ]] && list+=" ${name#* }${arg:+=}" ;;
            esac
        done < <(_arenascope_words)
        COMPREPLY=($(compgen -W "$list" -- "$cur"))
        [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace
        return
    fi
    if [[ -z $command ]]; then
        COMPREPLY=($(compgen -W "$names help" -- "$cur"))
    elif [[ $command == help ]]; then
        COMPREPLY=($(compgen -W "$names codes $("${words[0]}" help codes 2>/dev/null | cut -d' ' -f1)" -- "$cur"))
    fi
}

complete -F _arenascope arenascope
