echo $(echo $(echo $(echo deep))) `echo \`echo in\``
