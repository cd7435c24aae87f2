mkdir d; touch d/a d/b d/c; find d -name a -o -name b | sort; find d -type f ! -name a | sort; find d \( -name a -o -name c \) -type f | sort; find d -name a -prune -o -type f -print | sort
