from procession import Process


def worker():
    print("Worker process is running")


if __name__ == "__main__":
    process = Process(target=worker)
    process.start()
    process.join()
    print("Main process continues")
