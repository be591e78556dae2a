import procession as multiprocessing


def producer(queue):
    queue.put("Hello from producer!")


def consumer(queue):
    message = queue.get()
    print(message)


if __name__ == "__main__":
    queue = multiprocessing.Queue()
    p1 = multiprocessing.Process(target=producer, args=(queue,))
    p2 = multiprocessing.Process(target=consumer, args=(queue,))
    p1.start()
    p2.start()
    p1.join()
    p2.join()
