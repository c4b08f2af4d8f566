#!/bin/bash
# packages.sh   Install through apt whatever the servers and batch systems of the tests need (as root; scripts/setup.sh
# calls it). Asks nothing, starts no daemon, gives up after ten minutes.
. "$(dirname "$0")/lib.sh"; tb_root
tb_apt $TB_SSH_PACKAGES $TB_NET_PACKAGES $TB_SLURM_PACKAGES $TB_SGE_PACKAGES
