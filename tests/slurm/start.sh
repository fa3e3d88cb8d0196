#!/bin/sh
# Starts a SLURM of one machine, as root, for `pytest -m slurm`. Debian and its like:
#
#     apt-get install slurm-wlm munge
#     sh tests/slurm/start.sh
#
# Everything it writes lies in one folder, LORAE_SLURM or /tmp/lorae-slurm, but for the key of
# munge, which its package made. `sh tests/slurm/start.sh stop` ends what it started.
set -eu
folder=${LORAE_SLURM:-/tmp/lorae-slurm}
conf=$folder/slurm.conf

stop() {
    for name in slurmctld slurmd munged; do
        [ ! -f "$folder/$name.pid" ] || kill "$(cat "$folder/$name.pid")" 2>/dev/null || true
    done
}

if [ "${1:-}" = stop ]; then
    stop
    exit
fi
mkdir -p "$folder/state" "$folder/spool"
chmod 755 "$folder"
cat > "$conf" <<END
ClusterName=lorae
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CryptoType=crypto/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=1
KillWait=60
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=local Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
END
# munge insists on folders that nobody else may write to; /tmp is sticky, which --force accepts.
munged --force --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munged.seed"
slurmctld -f "$conf"
slurmd -f "$conf"
export SLURM_CONF="$conf"
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    if sinfo --noheader --format=%T 2>/dev/null | grep -q idle; then
        echo "export SLURM_CONF=$conf"
        exit
    fi
    sleep 0.5
done
echo "SLURM did not become idle; see $folder/*.log" >&2
exit 1
