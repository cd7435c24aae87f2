touch f; chmod 600 f; echo $?
# differs: WASI cannot change permissions, and says so
