x=hello; echo ${#x}; set -- a b c; echo ${#} $#; y=; echo ${#y}
