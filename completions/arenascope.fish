# fish completion for arenascope
# SPDX-License-Identifier: GPL-3.0-or-later
# Commands, options and their choices are asked of the program: `arenascope help words`.

function __arenascope_words
    command arenascope help words 2>/dev/null
end

function __arenascope_command
    set -l names (__arenascope_words | string match -rg '^command\t([^\t]+)') help
    for word in (commandline -opc)[2..]
        if contains -- $word $names
            echo $word
            return
        end
    end
    return 1
end

function __arenascope_in
    set -l command (__arenascope_command)
    and test "$command" = $argv[1]
end

complete -c arenascope -f
complete -c arenascope -n 'not __arenascope_command >/dev/null' -a '(__arenascope_words | string replace -rf "^command\t([^\t]+)\t[^\t]*\t(.*)" "\$1\t\$2")'
complete -c arenascope -n 'not __arenascope_command >/dev/null' -a help -d 'what there is, a command, an error\'s code'
complete -c arenascope -n '__arenascope_in help' -a '(command arenascope help codes 2>/dev/null | string replace -r "^(\S+)\s+" "\$1\t")'
complete -c arenascope -n '__arenascope_in help' -a '(__arenascope_words | string match -rg "^command\t([^\t]+)")'

complete -c arenascope -s p -l pid -x -a '(__fish_complete_pids)' -d 'live process'
complete -c arenascope -s c -l core -r -F -d 'core file'
complete -c arenascope -s e -l exe -r -F -d 'executable of the core'
complete -c arenascope -s x -l script -r -F -d 'run commands from a file'
complete -c arenascope -s o -l output -r -F -d 'write to a file'
complete -c arenascope -s f -l format -x -a 'text json jsonl csv html openmetrics' -d 'output format'

for line in (__arenascope_words | string match -r '^option\t.*')
    set -l f (string split \t -- $line)
    set -l name (string sub -s 3 -- $f[2])
    contains -- $name pid core exe script output format
    and continue
    switch "$f[3]/$f[4]"
        case '/'
            complete -c arenascope -l $name
        case '*|*'
            complete -c arenascope -l $name -x -a (string replace -a '|' ' ' -- $f[4])
        case 'FILE/' 'DIR/'
            complete -c arenascope -l $name -r -F
        case '*'
            complete -c arenascope -l $name -x
    end
end
for line in (__arenascope_words | string match -r '^command-option\t.*')
    set -l f (string split \t -- $line)
    set -l words (string split ' ' -- $f[2])
    set -l name (string sub -s 3 -- $words[2])
    set -l when "__arenascope_in $words[1]"
    if test -z "$f[3]"
        complete -c arenascope -n $when -l $name
    else if test -n "$f[4]"
        complete -c arenascope -n $when -l $name -x -a (string replace -a '|' ' ' -- $f[4])
    else
        complete -c arenascope -n $when -l $name -x
    end
end
