while read -r name value; do eval "cfg_$name=\$value"; done <<'E'
host example.com
port 8080
E
echo $cfg_host:$cfg_port
