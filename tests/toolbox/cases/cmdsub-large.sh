x=$(seq 20000); echo ${#x}
