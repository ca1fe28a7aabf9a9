"""A TCP proxy that loses answers: what the client sent arrives, what the broker said to it does not, and the connection is
reset. Prints its ports, then obeys lines on standard input, each answered with one line:

    cutter.py PORTS
    route PORT TO     what connects to PORT is passed on to TO
    on SEED           from now on all open connections lose their next answer, at random moments 50 to 400 ms apart
    off               no more; the answer is how many answers were lost since `on`
"""
import random
import socket
import struct
import sys
import threading

routes = {}
links = set()
guard = threading.Lock()
lost = 0


class Link:
    def __init__(self, client, broker):
        self.client, self.broker, self.doomed = client, broker, False

    def reset(self):
        for peer in (self.client, self.broker):
            try:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.shutdown(socket.SHUT_RD)
            except OSError:
                pass
            peer.close()

    def pump(self, source, target, answers):
        global lost
        try:
            while data := source.recv(1 << 16):
                if answers and self.doomed:
                    with guard:
                        lost += 1
                    break
                target.sendall(data)
        except OSError:
            pass
        with guard:
            links.discard(self)
        self.reset()


def serve(listener):
    port = listener.getsockname()[1]
    while True:
        client, _ = listener.accept()
        try:
            broker = socket.create_connection(("127.0.0.1", routes[port]), timeout=5)
        except (OSError, KeyError):
            client.close()
            continue
        broker.settimeout(None)
        for peer in (client, broker):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(client, broker)
        with guard:
            links.add(link)
        threading.Thread(target=link.pump, args=(client, broker, False), daemon=True).start()
        threading.Thread(target=link.pump, args=(broker, client, True), daemon=True).start()


def doom(seed, stop):
    moments = random.Random(seed)
    while not stop.wait(moments.uniform(0.05, 0.4)):
        with guard:
            for link in links:
                link.doomed = True


def main():
    global lost
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
    print(*(listener.getsockname()[1] for listener in listeners), flush=True)
    for listener in listeners:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
    stop, thread = threading.Event(), None
    for line in sys.stdin:
        command, *words = line.split()
        if command == "route":
            routes[int(words[0])] = int(words[1])
        elif command == "on":
            lost, stop = 0, threading.Event()
            thread = threading.Thread(target=doom, args=(int(words[0]), stop), daemon=True)
            thread.start()
        else:
            stop.set()
            thread.join()
            # Those that were doomed and still wait for an answer live on.
            with guard:
                for link in links:
                    link.doomed = False
        print(lost, flush=True)


main()
