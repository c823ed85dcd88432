# Leaves nothing behind of what was started for a directory of a lab.
#
# Everything is found by the directory, which nothing else shares: processes by WINDLASS_LAB in their
# environment, containers by their cgroup, mounts and files by their path. So it works as well when
# whoever made it was killed half-way.
#
#   clean.sh <directory> <name> [keep]     name: of the network namespace and the cgroup;
#                                          keep: the directory stays, only what runs is ended
set -u
dir=$1 name=$2

# Only what a lab has made is touched.
[ -e "$dir/.windlass-lab" ] || { echo "clean.sh: $dir is no directory of a lab" >&2; exit 1; }

ours() {
    grep -lzx "WINDLASS_LAB=$dir" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3
    find /sys/fs/cgroup -path "*/$name/*" -name cgroup.procs -exec cat {} + 2>/dev/null
}

# dockerd first would be enough if nothing were starting at this moment.
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    # Ourselves excepted: the environment is inherited.
    pids=$(ours | sort -un | grep -vx "$$")
    [ -n "$pids" ] || break
    kill -9 $pids 2>/dev/null
    sleep 0.1
done

# The deepest first; a second round for what lay under another mount.
for _ in 1 2; do
    awk -v dir="$dir" 'index($5, dir "/") == 1 { print length($5), $5 }' /proc/self/mountinfo |
        sort -rn | cut -d' ' -f2 | while read -r at; do umount -l "$at" 2>/dev/null; done
done

# The sockets of containerd's shims are not in our directory: they are named after what is.
for container in "$dir"/data/containers/*; do
    [ -d "$container" ] || continue
    at="$dir/exec/containerd/containerd.sock/moby/${container##*/}"
    rm -f "/run/containerd/s/$(printf %s "$at" | sha256sum | cut -d' ' -f1)"
done

find /sys/fs/cgroup -depth -type d \( -name "$name" -o -path "*/$name/*" \) -exec rmdir {} + 2>/dev/null
[ ! -e "/run/netns/$name" ] || ip netns delete "$name"
[ "${3:-}" = keep ] || rm -rf --one-file-system "$dir"
exit 0
