"""The loops of `adjacent`, compiled: the walk over shared edges, and windings made consistent.

Plain int64 arrays in and out.
"""

from __future__ import annotations

import numpy as np

from meshgpt.compiled import compiled


@compiled
def strips(faces, edges, starts, sharing):
    """Vertices in the order in which the walk names them, -1 where a strip breaks off.

    `faces` (sorted, and each of them sorted), `edges` (f x 3): the number of the edge across from each corner; the faces at edge e, in
    ascending order, are sharing[starts[e] : starts[e + 1]]. Looking for unvisited faces never goes back over visited ones.
    """
    written = np.empty(4 * len(faces), np.int64)
    visited = np.zeros(len(faces), np.bool_)
    unvisited = starts[:-1].copy()
    n = 0
    for start in range(len(faces)):
        if visited[start]:
            continue
        if n:
            written[n] = -1
            n += 1
        written[n : n + 3] = faces[start]
        n += 3
        face, oldest = start, 0
        while face >= 0:
            visited[face] = True
            edge, second = edges[face, oldest], written[n - 1]
            while unvisited[edge] < starts[edge + 1] and visited[sharing[unvisited[edge]]]:
                unvisited[edge] += 1
            if unvisited[edge] == starts[edge + 1]:
                break
            first, face = written[n - 2], sharing[unvisited[edge]]
            for corner in range(3):
                vertex = faces[face, corner]
                if vertex == first:
                    oldest = corner
                elif vertex != second:
                    written[n] = vertex
            n += 1
    return written[:n]


@compiled
def windings(faces, edges, starts, sharing):
    """Which faces to flip so that the two faces of an edge run along it in opposite directions, and the component of each face.

    Faces are in one component if a chain of edges with exactly two faces leads from one to the other; its first face stays as it is.
    Around a Moebius strip no choice fits every edge; there the way first found decides.
    """
    flip = np.zeros(len(faces), np.bool_)
    component = np.full(len(faces), -1)
    queue = np.empty(len(faces), np.int64)
    count = 0
    for start in range(len(faces)):
        if component[start] >= 0:
            continue
        queue[0], done, found = start, 0, 1
        component[start] = count
        while done < found:
            face = queue[done]
            done += 1
            for corner in range(3):
                edge = edges[face, corner]
                if starts[edge + 1] - starts[edge] != 2:
                    continue
                other = sharing[starts[edge]] + sharing[starts[edge] + 1] - face
                if component[other] < 0:
                    component[other] = count
                    tail = faces[face, (corner + 1) % 3]
                    across = 0 if edges[other, 0] == edge else 1 if edges[other, 1] == edge else 2
                    same = faces[other, (across + 1) % 3] == tail
                    flip[other] = flip[face] != same
                    queue[found] = other
                    found += 1
        count += 1
    return flip, component
