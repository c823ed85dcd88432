#!/bin/sh
# The demo: a fleet on this machine that runs the shop of examples/repo, deployed by a push.
#
#   examples/demo.sh          called by `make demo`, which installs what is missing
#   examples/demo.sh down     called by `make demo-down`
#
# Everything stands in one directory and in network namespaces; the machine itself gets one link,
# lab-demo, and nothing else: no rule, no service.
set -eu
cd "$(dirname "$0")/.."

windlass=$PWD/target/release/windlass
lab=/var/tmp/windlass-lab/demo

if [ "${1:-}" = down ]; then
    [ -e "$lab" ] || { echo "there is no demo"; exit 0; }
    exec "$windlass" lab --lab demo down
fi

[ "$(id -u)" = 0 ] || { echo "the demo makes network namespaces and starts Docker: run it as root" >&2; exit 1; }

echo "building windlass (some minutes the first time)"
"${CARGO:-cargo}" build --release --quiet
images=${IMAGES:-target/images}
[ -e "$images/.made" ] || { echo "making the shop's images"; examples/images/build.sh "$images"; touch "$images/.made"; }

git() { command git -c init.defaultBranch=main -c user.name=demo -c user.email=demo@example.com "$@"; }
if [ ! -e "$lab/desired.git" ]; then
    echo "making a repository of examples/repo, and pushing to it"
    mkdir -p "$lab"
    rm -rf "$lab/shop" "$lab/desired.new"
    git init -q --bare "$lab/desired.new"
    cp -R examples/repo "$lab/shop"
    git -C "$lab/shop" init -q
    git -C "$lab/shop" config user.name demo
    git -C "$lab/shop" config user.email demo@example.com
    git -C "$lab/shop" add .
    git -C "$lab/shop" commit -q -m "The shop"
    git -C "$lab/shop" push -q "$lab/desired.new" main
    mv "$lab/desired.new" "$lab/desired.git"
    git -C "$lab/shop" remote add origin "$lab/desired.git"
    git -C "$lab/shop" fetch -q origin
    git -C "$lab/shop" branch -q --set-upstream-to=origin/main main
fi

"$windlass" lab --lab demo up --nodes "${NODES:-1}" --desired "$lab/desired.git" --images "$images" --wait

address=$("$windlass" lab --lab demo list | awk 'NR == 1 { print $3 }')
socket=$("$windlass" lab --lab demo list | awk 'NR == 1 { print $5 }')
echo
echo "$ curl http://$address:30080/cgi-bin/shop"
curl -sS --max-time 10 --retry 5 --retry-connrefused "http://$address:30080/cgi-bin/shop"
echo
echo "$ windlass get all -A"
WINDLASS_SOCKET=$socket "$windlass" get all -A
cat <<TEXT

Three things to try next. First, once:
  export WINDLASS_SOCKET=$socket PATH=\$PATH:$PWD/target/release; cd $lab/shop

1. Change a count, and push:
  sed -i 's/replicas: 2/replicas: 4/' shop/frontend.yaml; git commit -qam 'Four frontends'; git push; windlass get pods -n shop -w
2. Break a manifest, and push: nothing that runs is touched, and status says file and line.
  sed -i 's/replicas:/replicsa:/' shop/frontend.yaml; git commit -qam 'Oops'; git push; windlass status
3. Take it back:
  git revert --no-edit HEAD; git push; windlass status

make demo-down leaves nothing of it.
TEXT
