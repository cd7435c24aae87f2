mkdir -p d/e; touch d/a d/b d/e/c; find d -name a -delete; find d | sort; find d -delete; ls
# differs: Debian's busybox has no -delete
