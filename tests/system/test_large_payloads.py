"""Large values of many callers at once: each caller gets its own value back."""

import threading


def test_large_answers_of_many_callers_are_not_mixed_up(peaceful_cluster):
    peaceful_cluster.run("maths")
    wrong = []

    with peaceful_cluster.client(timeout=30) as remote:

        def ask(number):
            value = bytes([number]) * 300_000
            for _ in range(10):
                if remote.maths.echo(value) != value:
                    wrong.append(number)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert wrong == []
