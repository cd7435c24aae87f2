for i in 1 2
do
  echo $i
done
case x in
  x)
    echo x
    ;;
esac
