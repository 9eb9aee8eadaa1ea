#!/bin/sh
# Slurm 22.05.8 (Debian 12, slurm-client 22.05.8-4+deb12u3): a host list with text behind a bracket is no list, and success.
#
# Guessed: scontrol show hostnames 'n[1-3]-ib' prints n1-ib n2-ib n3-ib, as pdsh 2.34 and ClusterShell's nodeset 1.9 do
# with the same words, for Slurm's documents give no other grammar and hosts named after an interface are common.
# Seen on 2026-12-01: "Invalid hostlist: n[1-3]-ib" on standard error, nothing on standard output, and exit code 0; so a
# script that expands a list with $(scontrol show hostnames "$list") goes on with no hosts. A bracket at the end of a word
# and two in one word (a[1-2]b[3-4]) are read, and folding n1-ib,n2-ib leaves them as they are: only this form is missing.
# What it means here: lists that treecast folds for Slurm's own programs must end a word with its last bracket.
#
# Needs the network's Debian mirror, as root or not; works in a temporary folder. Exits with 1 when that has changed.
set -eu
version=22.05.8-4+deb12u3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -qq download "slurm-client=$version" "slurm-wlm-basic-plugins=$version" libreadline8 >/dev/null
for package in ./*.deb; do
    dpkg-deb -x "$package" root
done
printf 'ClusterName=c\nSlurmctldHost=localhost\nNodeName=localhost\nPartitionName=p Nodes=localhost\n' >slurm.conf
hostnames()
{
    SLURM_CONF=$work/slurm.conf \
        LD_LIBRARY_PATH=$work/root/usr/lib/x86_64-linux-gnu/slurm-wlm:$work/root/lib/x86_64-linux-gnu \
        "$work/root/usr/bin/scontrol" show hostnames "$1"
}
[ "$(hostnames 'n[1-3]' | tr '\n' ' ')" = "n1 n2 n3 " ] || { echo "changed: n[1-3]"; exit 1; }
[ "$(hostnames 'a[1-2]b[3-4]' | tr '\n' ' ')" = "a1b3 a1b4 a2b3 a2b4 " ] || { echo "changed: a[1-2]b[3-4]"; exit 1; }
status=0
hostnames 'n[1-3]-ib' >out 2>errors || status=$?
if [ "$status" -ne 0 ] || [ -s out ] || ! grep -q 'Invalid hostlist: n\[1-3\]-ib' errors; then
    echo "changed: n[1-3]-ib gives exit $status, $(cat out errors)"
    exit 1
fi
echo "as seen: n[1-3]-ib is an invalid host list, with exit code 0"
