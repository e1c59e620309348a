"""The chain: staked workers do tasks and are paid by a contract; its events feed the queue.

Nothing here is loaded before it is used; most of it needs `pip install 'noob-cloud[chain]'`.
"""

from __future__ import annotations
