trap 'echo no' EXIT; trap - EXIT; echo ok; trap
