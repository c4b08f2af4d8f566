#!/bin/bash
# slurm-up.sh [N=4]   A private Slurm cluster of N virtual nodes on this machine, with accounting.
# Every node is a namespace of its own (network, host name, processes, mounts): host n01.., address NET.11.., its own /tmp,
# reached over a bridge at NET.1. The controller and the login node (sshd-up.sh, server "slurm") are this machine.
# Inside, the accounts of sshd-up.sh exist and /etc/slurm is the state's; from outside: SLURM_CONF=$TB_STATE/etc/slurm/slurm.conf.
# env: TB_PORT TB_CPUS(4) TB_MEM(4000 MB) TB_GPUS(2, on the first half of the nodes) TB_DBD(1: accounting)
. "$(dirname "$0")/lib.sh"; tb_root
N=${1:-4}; CPUS=${TB_CPUS:-4} MEM=${TB_MEM:-4000} GPUS=${TB_GPUS:-2} DBD=${TB_DBD:-1}
PB=${TB_PORT:-17000}                    # controller PB, accounting PB+1, its database PB+2, slurmd PB+10, srun PB+100..PB+399
S=$TB_STATE/slurm; ETC=$TB_STATE/etc/slurm; HOST=$(hostname -s)
NET=${TB_SLURM_NET:-10.84.$(( 16#$(printf %s "$TB_ID" | cksum | cut -c1-2) % 250 ))}
tb_apt openssl $TB_SLURM_PACKAGES
tb_accounts
mkdir -p "$S"/{log,state,spool,run,munge,db,gpu,tmp}; chmod 755 "$S" "$S"/*
chown slurm: "$S"/{log,state,run}; chown munge: "$S/munge"
echo "$NET" >"$S/net"

# --- munge: its own key and socket
[ -s "$S/munge/key" ] || { (umask 077; head -c 1024 /dev/urandom >"$S/munge/key"); chown munge: "$S/munge/key"; }
SOCK=$S/munge/sock
tb_start munged "$S/log/munged.out" "${IN[@]}" setpriv --reuid munge --regid munge --clear-groups munged -F \
  --key-file="$S/munge/key" --socket="$SOCK" --pid-file="$S/munge/pid" --log-file="$S/munge/log" --seed-file="$S/munge/seed" \
  --num-threads=4 || exit 1

# --- configuration
last=$(printf %02d "$N"); half=$(printf %02d $(( (N+1)/2 )))
{
cat <<C
ClusterName=jrmtb
SlurmctldHost=$HOST($NET.1)
SlurmctldPort=$PB
SlurmUser=slurm
AuthType=auth/munge
AuthInfo=socket=$SOCK
CryptoType=crypto/munge
StateSaveLocation=$S/state
TmpFS=/tmp
SlurmdSpoolDir=$S/spool/%n
SlurmctldPidFile=$S/run/slurmctld.pid
SlurmdPidFile=$S/run/slurmd-%n.pid
SlurmctldLogFile=$S/log/slurmctld.log
SlurmdLogFile=$S/log/slurmd-%n.log
SlurmctldDebug=info
SlurmdDebug=info
# one machine, no systemd, no cgroups
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill,UsePss
SlurmdParameters=config_overrides
MpiDefault=none
SrunPortRange=$((PB+100))-$((PB+399))
PropagateResourceLimits=NONE
ReturnToService=2
# what takes minutes on a site takes seconds here
SlurmdTimeout=10
SlurmctldTimeout=10
MessageTimeout=10
KillWait=5
MinJobAge=120
InactiveLimit=0
OverTimeLimit=0
CompleteWait=0
EpilogMsgTime=10
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,bf_continue,bf_resolution=10,sched_interval=5,sched_min_interval=100000,batch_sched_delay=0,max_rpc_cnt=0
PriorityType=priority/multifactor
PriorityDecayHalfLife=0-01:00:00
PriorityCalcPeriod=1
PriorityWeightAge=1000
PriorityWeightFairshare=10000
PriorityWeightJobSize=500
PriorityWeightPartition=1000
PriorityWeightQOS=2000
PriorityMaxAge=0-01:00:00
PreemptType=preempt/partition_prio
PreemptMode=SUSPEND,GANG
JobCompType=jobcomp/filetxt
JobCompLoc=$S/log/jobcomp.txt
C
# the munge socket must be named for the accounting once more: AuthInfo does not reach it
[ "$DBD" = 1 ] && cat <<C
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((PB+1))
AccountingStoragePass=$SOCK
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations,limits,qos
AccountingStoreFlags=job_comment
C
echo "GresTypes=gpu"
for i in $(seq "$N"); do n=$(printf n%02d "$i")
  g=""; f="cpu"; [ "$i" -le "${half#0}" ] && [ "$GPUS" -gt 0 ] && { g="Gres=gpu:fake:$GPUS"; f="gpu"; }
  echo "NodeName=$n NodeHostname=$n NodeAddr=$NET.$((10+i)) Port=$((PB+10)) CPUs=$CPUS Sockets=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=$MEM Feature=$f $g State=UNKNOWN"
done
cat <<C
PartitionName=batch    Nodes=n[01-$last] Default=YES DefaultTime=10:00 MaxTime=2-00:00:00 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=debug    Nodes=n[01-$last] DefaultTime=2:00 MaxTime=10:00 MaxNodes=2 PriorityTier=20 PriorityJobFactor=100 PreemptMode=OFF State=UP
PartitionName=gpu      Nodes=n[01-$half] DefaultTime=10:00 MaxTime=1-00:00:00 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=scavenge Nodes=n[01-$last] DefaultTime=10:00 MaxTime=4:00:00 PriorityTier=1 PreemptMode=REQUEUE GraceTime=5 State=UP
PartitionName=idlecyc  Nodes=n[01-$last] DefaultTime=10:00 MaxTime=4:00:00 PriorityTier=1 PreemptMode=SUSPEND OverSubscribe=FORCE:1 State=UP
C
} >"$ETC/slurm.conf"
# a GPU must be a character device, or Slurm sets no CUDA_VISIBLE_DEVICES: clones of /dev/null will do
for i in $(seq 0 $((GPUS-1))); do [ -c "$S/gpu/gpu$i" ] || { rm -f "$S/gpu/gpu$i"; mknod -m 666 "$S/gpu/gpu$i" c 1 3; }; done
: >"$ETC/gres.conf"
[ "$GPUS" -gt 0 ] && echo "NodeName=n[01-$half] Name=gpu Type=fake File=$S/gpu/gpu[0-$((GPUS-1))]" >"$ETC/gres.conf"
export SLURM_CONF=$ETC/slurm.conf

# --- the network and the names in it
BR=jb$TB_ID
ip link show "$BR" >/dev/null 2>&1 || { ip link add "$BR" type bridge; ip addr add "$NET.1/24" dev "$BR"; ip link set "$BR" up; }
for i in $(seq "$N"); do n=$(printf n%02d "$i"); ns=jrm-tb-$TB_ID-$n
  ip netns list | grep -qw "$ns" || { ip netns add "$ns"; ip link add "v$TB_ID$n" type veth peer name eth0 netns "$ns"
    ip link set "v$TB_ID$n" master "$BR" up; ip -n "$ns" link set lo up; ip -n "$ns" addr add "$NET.$((10+i))/24" dev eth0; ip -n "$ns" link set eth0 up
    ip -n "$ns" route add default via "$NET.1"; }
done
hosts() { echo "127.0.0.1 localhost"; echo "$NET.1 $HOST"; for i in $(seq "$N"); do printf '%s.%d n%02d\n' "$NET" $((10+i)) "$i"; done; }
hosts >"$S/hosts"; cat "$S/hosts" >"$TB_STATE/etc/hosts"   # in place: it is mounted

# --- accounting: a private MariaDB (loopback only) and slurmdbd
tb_wait 120 munge -n -S "$SOCK" || tb_die "munged does not answer"
if [ "$DBD" = 1 ]; then
  chown -R mysql: "$S/db"
  [ -d "$S/db/mysql" ] || mariadb-install-db --no-defaults --user=mysql --datadir="$S/db" --auth-root-authentication-method=socket \
    --skip-test-db >"$S/log/db-install.log" 2>&1 || tb_die "mariadb-install-db"
  tb_start mariadbd "$S/log/mariadbd.log" mariadbd --no-defaults --user=mysql --datadir="$S/db" --socket="$S/db/sock" \
    --bind-address=127.0.0.1 --port=$((PB+2)) --pid-file="$S/db/pid" --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 \
    --innodb-flush-log-at-trx-commit=0 --skip-log-bin || exit 1
  tb_wait 120 mariadb --no-defaults -S "$S/db/sock" -e 'select 1' || tb_die "mariadbd"
  [ -s "$S/db.password" ] || (umask 077; openssl rand -hex 8 >"$S/db.password")
  P=$(cat "$S/db.password")
  mariadb --no-defaults -S "$S/db/sock" -e "create database if not exists slurm_acct_db;
    create user if not exists 'slurm'@'127.0.0.1' identified by '$P'; create user if not exists 'slurm'@'localhost' identified by '$P';
    grant all on slurm_acct_db.* to 'slurm'@'127.0.0.1'; grant all on slurm_acct_db.* to 'slurm'@'localhost';"
  (umask 077; cat >"$ETC/slurmdbd.conf") <<C
AuthType=auth/munge
AuthInfo=socket=$SOCK
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((PB+1))
SlurmUser=slurm
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((PB+2))
StorageUser=slurm
StoragePass=$P
StorageLoc=slurm_acct_db
PidFile=$S/run/slurmdbd.pid
LogFile=$S/log/slurmdbd.log
C
  chown slurm: "$ETC/slurmdbd.conf"; chmod 600 "$ETC/slurmdbd.conf"
  tb_start slurmdbd "$S/log/slurmdbd.out" "${IN[@]}" slurmdbd -D || exit 1
  tb_wait 120 tb_listens 127.0.0.1 $((PB+1)) || tb_die "slurmdbd"
  # once for a fresh database; everything in one call, which is what takes the time
  tb_wait 120 sacctmgr -n list cluster || tb_die "sacctmgr"
  [ -f "$S/accounts" ] || { { echo "add cluster jrmtb"; echo "add qos high Priority=100"; echo "add qos low Priority=1"
    echo "add qos two MaxJobsPerUser=1 MaxSubmitJobsPerUser=3"
    echo "add account tb Description=tb Organization=tb Fairshare=10"; echo "add account proj2 Description=p Organization=tb Fairshare=1"
    for u in root alice bob; do echo "add user $u Account=tb,proj2 DefaultAccount=tb"; echo "modify user $u set qos=normal,high,low,two"; done
    } | "${IN[@]}" sacctmgr -iQ >"$S/log/sacctmgr.log" 2>&1; : >"$S/accounts"; }
fi

# --- daemons
tb_start slurmctld "$S/log/slurmctld.out" "${IN[@]}" slurmctld -D || exit 1
for i in $(seq "$N"); do "$TB_HOME/slurm-node.sh" start "$(printf n%02d "$i")" & done; wait
tb_wait 120 scontrol ping || tb_die "slurmctld"
echo "$N" >"$S/shape"
tb_wait 120 bash -c "[ \$(sinfo -h -N -t idle -p batch -o %N | sort -u | wc -l) = $N ]" || { sinfo -N -l >&2; tb_die "not all nodes are idle"; }
tb_log "up: $N nodes; export SLURM_CONF=$SLURM_CONF"
