#!/bin/bash
# net-up.sh [key=value ...]   A network namespace reached from here only over a bad network made by wanlink.py
# (this side NET.1, the far side NET.2). Keys: delay=ms jitter=ms loss=% rate=kbit/s, see wanlink.py.
. "$(dirname "$0")/lib.sh"; tb_root
tb_apt $TB_NET_PACKAGES
NET=${TB_NET:-10.83.$(( 16#$(printf %s "$TB_ID" | cksum | cut -c1-2) % 250 ))}; NS=jrm-tb-$TB_ID
ip netns list | grep -qw "$NS" || { ip netns add "$NS"; ip -n "$NS" link set lo up; }
echo "$NET.2" >"$TB_STATE/net.far"
tb_start wanlink "$TB_STATE/wan.log" /usr/bin/python3 "$TB_HOME/wanlink.py" run --a - --b "$NS" --net "$NET" \
  --name "jw$TB_ID" --ctl "$TB_STATE/wan.sock" "$@" || exit 1
tb_wait 5 ping -c1 -W1 "$NET.2" || tb_die "no ping"
tb_log "up: wanlink.py set --ctl $TB_STATE/wan.sock delay=50 | state=blackhole | state=up"
