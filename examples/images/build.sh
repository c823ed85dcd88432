#!/bin/sh
# Builds the images of the example shop, offline, from Debian packages: no registry, no Docker.
#
#   examples/images/build.sh DIR      writes DIR/<name>.tar, each for `docker load`
#
# Every image is one layer: a program with the libraries it needs, and the scripts beside this file.
# Needs redis-server (redis-tools comes with it), which `make images` installs, and busybox, which is
# only downloaded.
set -eu

out=${1:?usage: build.sh DIR}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

# rootfs NAME: begins an image's file tree, with the directories every image has.
rootfs() {
    root=$work/$1
    mkdir -p "$root/bin" "$root/etc" "$root/tmp" "$root/var" "$root/proc" "$root/sys" "$root/dev"
    chmod 1777 "$root/tmp"
    echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
    echo 'app:x:1000:1000:app:/:/bin/sh' >>"$root/etc/passwd"
    printf 'root:x:0:\napp:x:1000:\n' >"$root/etc/group"
    echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
}

# tools: a shell and the usual tools. The dynamically linked busybox: the static one can't look up
# names (glibc's resolver is a plug-in). The package is unpacked, not installed, because it excludes
# busybox-static, which this machine may have.
tools() {
    if [ ! -e "$work/busybox/bin/busybox" ]; then
        mkdir "$work/deb"
        (cd "$work/deb" && apt-get -q download busybox >/dev/null 2>&1) || {
            echo "build.sh: the Debian package busybox can't be downloaded" >&2
            exit 1
        }
        dpkg-deb -x "$work"/deb/busybox_*.deb "$work/busybox"
    fi
    program "$work/busybox/bin/busybox"
    for applet in $("$work/busybox/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
    done
}

# program PATH: a program of this machine with the shared libraries it is linked to.
program() {
    cp "$1" "$root/bin/"
    ldd "$1" | awk '$2 == "=>" { print $3 } $1 ~ /^\// { print $1 }' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
}

# pack NAME REPO:TAG USER CMD: makes the archive. Times and owners are fixed, so that the same
# content gives the same image id.
pack() {
    archive=$work/$1.image
    mkdir -p "$archive/layer"
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$root" -cf "$archive/layer/layer.tar" .
    layer=$(sha256sum "$archive/layer/layer.tar" | cut -d' ' -f1)
    architecture=$(dpkg --print-architecture)
    cat >"$archive/config.json" <<JSON
{"architecture":"$architecture","os":"linux","created":"1970-01-01T00:00:00Z","config":{"User":"$3","Env":["PATH=/bin"],"Cmd":$4},"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"examples/images/build.sh"}]}
JSON
    printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer/layer.tar"]}]' "$2" >"$archive/manifest.json"
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$archive" -cf "$out/$1.tar.new" .
    mv "$out/$1.tar.new" "$out/$1.tar"
    echo "$2 -> $out/$1.tar ($(du -h "$out/$1.tar" | cut -f1))"
}

registry=registry.example.com/shop

rootfs redis
program "$(command -v redis-server)"
program "$(command -v redis-cli)"
tools
pack redis "$registry/redis:7.0" "" '["redis-server","--save","","--protected-mode","no","--bind","0.0.0.0"]'

for name in backend frontend worker; do
    rootfs "$name"
    tools
    cp -R "$here/$name/rootfs/." "$root/"
    find "$root/app" "$root/www" -type f -exec chmod 755 {} + 2>/dev/null || true
    pack "$name" "$registry/$name:1.0" "1000" '["/app/start"]'
done
