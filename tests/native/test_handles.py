"""Handles that several threads use are destroyed once, by who lets go last."""

from __future__ import annotations

import threading

from aiotaos.transport.native.handles import Handle


def test_the_owner_alone() -> None:
    destroyed: list[int] = []
    handle = Handle(7, destroyed.append)
    assert not handle.closed
    handle.close()
    handle.close()
    assert handle.closed
    assert destroyed == [7]
    assert not handle.hold()


def test_who_holds_it_keeps_it() -> None:
    destroyed: list[int] = []
    handle = Handle(7, destroyed.append)
    assert handle.hold()
    assert handle.hold()
    handle.close()
    assert not handle.hold()
    handle.release()
    assert destroyed == []
    handle.release()
    assert destroyed == [7]


def test_the_owner_is_last() -> None:
    destroyed: list[int] = []
    handle = Handle(7, destroyed.append)
    assert handle.hold()
    handle.release()
    assert destroyed == []
    handle.close()
    assert destroyed == [7]


def test_many_threads() -> None:
    for _ in range(50):
        destroyed: list[int] = []
        handle = Handle(7, destroyed.append)
        start = threading.Barrier(5)

        def use(handle: Handle = handle, start: threading.Barrier = start) -> None:
            start.wait()
            while handle.hold():
                handle.release()

        def close(handle: Handle = handle, start: threading.Barrier = start) -> None:
            start.wait()
            handle.close()

        threads = [threading.Thread(target=use) for _ in range(3)]
        threads += [threading.Thread(target=close) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert destroyed == [7]
