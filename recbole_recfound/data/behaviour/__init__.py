"""Users' behaviour as text: statistics without leaks, sentences, segments."""

from recbole_recfound.data.behaviour.log import Attribute, Log
from recbole_recfound.data.behaviour.segments import BehaviourTexts, Pack, SegmentTable, Source
from recbole_recfound.data.behaviour.statistics import Statistics
from recbole_recfound.data.behaviour.tally import Tally

__all__ = ["Attribute", "BehaviourTexts", "Log", "Pack", "SegmentTable", "Source", "Statistics", "Tally"]
