# Completion of the commands and options of lorae, for bash and zsh.
_lorae() {
    local current=${COMP_WORDS[COMP_CWORD]} words
    if [ "$COMP_CWORD" -eq 1 ]; then
        words=$(lorae --help | sed -n 's/^  \([a-z][a-z]*\)  .*/\1/p')
    elif [ "${current#-}" != "$current" ]; then
        words=$(lorae "${COMP_WORDS[1]}" --help | grep -oE -- '--[a-z][a-z-]+' | sort -u)
    else
        COMPREPLY=($(compgen -f -- "$current"))
        return
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o filenames -F _lorae lorae
