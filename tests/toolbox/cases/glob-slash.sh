mkdir -p a/x b/x; touch a/x/1 b/x/2; echo */x/*; echo */; echo ./*/x
