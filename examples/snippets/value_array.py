from procession import Array, Process, Value


def modify(num, arr):
    num.value += 1
    arr[0] += 1


if __name__ == "__main__":
    num = Value("i", 10)
    arr = Array("i", [1, 2, 3])

    p = Process(target=modify, args=(num, arr))
    p.start()
    p.join()

    print(num.value)
    print(arr[:])
