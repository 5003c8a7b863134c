"""The documents that stages hand to each other, all by one door. No torch here.

What a person asks for stands in ``scenes`` and its files in ``scene_files``, what a run did in ``records``, how a
picture came out in ``scores``; ``fields`` and ``parsing`` say what they are made of and how they are read.
"""

from d2plan.fields import Document as Document
from d2plan.fields import FolderName as FolderName
from d2plan.fields import Fraction as Fraction
from d2plan.fields import PathText as PathText
from d2plan.fields import Position as Position
from d2plan.fields import Seed as Seed
from d2plan.fields import Steps as Steps
from d2plan.fields import Strength as Strength
from d2plan.fields import Text as Text
from d2plan.fields import Word as Word
from d2plan.fields import contains_word as contains_word
from d2plan.parsing import DocumentT as DocumentT
from d2plan.parsing import load_document as load_document
from d2plan.parsing import parse_document as parse_document
from d2plan.parsing import revise as revise
from d2plan.records import AdapterUse as AdapterUse
from d2plan.records import Choice as Choice
from d2plan.records import FileUse as FileUse
from d2plan.records import MaskReport as MaskReport
from d2plan.records import RunRecord as RunRecord
from d2plan.records import load_run as load_run
from d2plan.scene_files import list_files as list_files
from d2plan.scene_files import load_request as load_request
from d2plan.scene_files import load_scene as load_scene
from d2plan.scene_files import load_series as load_series
from d2plan.scene_files import locate_concepts as locate_concepts
from d2plan.scene_files import split_detector as split_detector
from d2plan.scenes import MAX_INSTANCES as MAX_INSTANCES
from d2plan.scenes import Control as Control
from d2plan.scenes import Instance as Instance
from d2plan.scenes import Scene as Scene
from d2plan.scenes import SceneFields as SceneFields
from d2plan.scenes import Series as Series
from d2plan.scenes import Style as Style
from d2plan.scenes import Variant as Variant
from d2plan.scenes import list_scenes as list_scenes
from d2plan.scores import InstanceScore as InstanceScore
from d2plan.scores import Score as Score
from d2plan.yaml_file import read_yaml as read_yaml
