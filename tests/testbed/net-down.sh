#!/bin/bash
# net-down.sh   Remove the link and the namespace of this state.
. "$(dirname "$0")/lib.sh"; tb_root
tb_stop wanlink; ip netns del "jrm-tb-$TB_ID" 2>/dev/null; rm -f "$TB_STATE/wan.sock" "$TB_STATE/net.far"
exit 0
