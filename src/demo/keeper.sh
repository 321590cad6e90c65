# Runs one program and ends it, with all that it started, when standard input ends: the pipe breaks also when its writer
# is killed with SIGKILL. Arguments: signal that asks the program to stop, seconds until SIGKILL, log file, program, its arguments.
# Prints the program's process id. Nothing is reaped before the end, so that id cannot come to mean another process.
stop=$1 grace=$2 log=$3
shift 3

# Reads /proc/$1/stat into state, parent and born. The name before them may hold spaces and brackets.
look() {
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    set -- ${line##*) }
    state=$1 parent=$2
    shift 19
    born=$1
}
# The process $1 and everything below it, each as id:born.
tree() {
    look "$1" && echo "$1:$born"
    for entry in /proc/[0-9]*; do
        look "${entry#/proc/}" && [ "$parent" = "$1" ] && tree "${entry#/proc/}"
    done
}
over() { ! look "$child" || [ "$state" = Z ] || [ "$state" = X ]; }
end() {
    trap '' TERM INT HUP
    all=$(tree "$child")
    for one in $all; do kill -CONT "${one%:*}" 2>/dev/null; done # a frozen process hears nothing
    kill -"$stop" "$child" 2>/dev/null
    left=$((grace * 10))
    while [ "$left" -gt 0 ] && ! over; do
        sleep 0.1
        left=$((left - 1))
    done
    over || all="$all $(tree "$child")"
    for one in $all; do # what is left of them, and only of them
        look "${one%:*}" && [ "$born" = "${one#*:}" ] && kill -KILL "${one%:*}" 2>/dev/null
    done
    wait "$child" 2>/dev/null
    exit 0
}
trap end TERM INT HUP

exec 3<&0
"$@" </dev/null 3<&- >>"$log" 2>&1 &
child=$!
echo "$child"
exec >/dev/null
while read -r _ <&3; do :; done
end
