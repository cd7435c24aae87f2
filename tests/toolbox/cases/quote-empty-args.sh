set -- '' "" a ''; echo $#; for i; do printf '<%s>' "$i"; done; echo
