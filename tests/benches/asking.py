"""``python asking.py PORT FILE FIRST``: a client that asks again and again until it is killed.

FILE has what to ask and the right answers, FIRST is where it begins. A line is printed for each
right answer; a wrong one ends the client.
"""

import http.client
import itertools
import json
import sys
from pathlib import Path


def main(port: int, path: Path, first: int) -> None:
    asked = json.loads(path.read_text())
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for number in itertools.count(first):
        told = asked[number % len(asked)]
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/completions", json.dumps(told["body"]), headers)
        answer = json.load(connection.getresponse())
        if [choice["text"] for choice in answer["choices"]] != told["texts"]:
            sys.exit(f"{told}: {answer}")
        print(number, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
