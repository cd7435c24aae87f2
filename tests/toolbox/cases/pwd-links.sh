mkdir real; ln -s real link; cd link; basename "$(pwd)"; basename "$(pwd -P)"
