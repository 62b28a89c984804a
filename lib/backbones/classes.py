"""What a backbone's own classifier knows: the layer that extraction takes out, by class name."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.backbones.kept import keep_of_weights, kept_of_weights, place_of_weights
from lib.backbones.origin import RANDOM
from lib.errors import MissingError

# What people say where ImageNet's 1,000 classes show: the everyday word for the kind (a Norfolk
# terrier is a dog) or for where it belongs (a toilet seat to a bathroom), by the classes' numbers,
# first and last of a range. Without captions it lifts recall@1 by a twentieth (docs/embedder.md).
# What is kept of heads holds these words: another table is another `lib.backbones.kept._FORM`.
_KINDS: dict[str, tuple[int | tuple[int, int], ...]] = {
    "fish": ((0, 6), (389, 397)),
    "bird": ((7, 24), (80, 100), (127, 146)),
    "duck": ((97, 99),),
    "frog": ((30, 32),),
    "turtle": ((33, 37),),
    "snake": ((52, 68),),
    "dog": ((151, 268),),
    "wolf": ((269, 275),),
    "fox": ((277, 280),),
    "cat": ((281, 287),),
    "lion": (291,),
    "bear": ((294, 297),),
    "insect": ((300, 320),),
    "butterfly": ((321, 326),),
    "rabbit": ((330, 332),),
    "horse": (339, 603),
    "pig": ((341, 343),),
    "cow": ((345, 347), 690),
    "sheep": ((348, 349),),
    "goat": (350,),
    "monkey": ((365, 384),),
    "elephant": (101, 385, 386),
    "boat": (403, 449, 472, 484, 510, 536, 554, 576, 625, 628, 724, 780, 814, 871, 913, 914),
    "airplane": (404, 895, 908),
    "car": (407, 436, 468, 511, 609, 627, 656, 661, 751, 817),
    "truck": (555, 569, 675, 717, 734, 803, 864, 867),
    "bus": (654, 779, 874),
    "train": (466, 547, 565, 705, 820, 829),
    "bicycle": (444, 671, 870),
    "motorcycle": (518, 665, 670),
    "chair": (423, 559, 765, 857),
    "couch": (831,),
    "bed": (516, 520, 564, 750),
    "table": (526, 532, 736),
    "cabinet": (492, 493, 495, 648, 894),
    "bathroom": (434, 435, 648, 794, 804, 861, 876, 896, 999),
    "toilet": (861,),
    "sink": (896,),
    "kitchen": (521, 534, 544, 550, 567, 651, 760, 766, 827, 859, 891, 909),
    "oven": (651, 766, 827),
    "refrigerator": (760,),
    "computer": (508, 527, 590, 620, 664, 673, 681, 782),
    "laptop": (620, 681),
    "phone": (487, 528, 707),
    "television": (598, 664, 782, 851),
    "clock": (409, 530, 604, 826, 892),
    "watch": (531,),
    "camera": (732, 759),
    "book": (454, 624, 917, 921),
    "cup": (441, 504, 550, 572, 647, 967, 968),
    "coffee": (504, 505, 550, 967),
    "bottle": (440, 720, 737, 898, 899, 901, 907),
    "wine": (907, 966),
    "bowl": (659, 809, 925, 926),
    "plate": (729, 923),
    "bag": (414, 636, 728, 748),
    "hat": (439, 452, 515, 808),
    "tie": (451, 457, 906),
    "shirt": (610, 841),
    "jacket": (568, 735, 869),
    "ball": (429, 430, 522, 574, 722, 768, 805, 852, 890),
    "baseball": (429, 981),
    "tennis": (752, 852),
    "snow": (450, 537, 795, 802, 803, 970),
    "beach": (433, 638, 639, 842, 977, 978),
    "water": (460, 536, 718, 975, 977, 978),
    "mountain": (970, 972, 979, 980),
    "building": (425, 483, 497, 498, 580, 624, 660, 663, 668, 698, 727, 743, 762, 832),
    "church": (497, 663, 668),
    "bridge": (821, 839, 888),
    "sign": (916, 919),
    "fence": (489, 716, 912),
    "bench": (703,),
    "window": (904, 905),
    "food": ((924, 927), (933, 935), (959, 965)),
    "dessert": ((927, 929), 960),
    "bread": ((930, 932), 961),
    "sandwich": (933, 934),
    "vegetable": ((936, 946),),
    "fruit": ((948, 957),),
    "flower": (883, 985, 986),
    "man": (834, 981, 982, 983),
    "guitar": (402, 546),
}


@dataclass(frozen=True)
class ClassifierHead:
    """Logits of classes are x·weight + bias for a descriptor x."""

    weight: np.ndarray  # (descriptor_size, C) float32
    bias: np.ndarray  # (C,) float32
    names: list[str]  # C, synonyms parted by commas
    weights_digest: str  # as in Provenance


def classifier_head(name: str, weights: str | None = None) -> ClassifierHead:
    """The last layer of an ImageNet classifier of torchvision or timm, with its class names.

    `weights`: a file or URL of a state dict; without it the official ones. The names are those of
    timm's ImageNetInfo (WordNet's synonyms), else of torchvision's metadata; the kinds that they
    are of follow. What an earlier run read from a file that still has the same content is kept.
    Raises MissingError where the weights cannot be had, lack the layer, or tell classes that have
    no names here.
    """
    if weights == RANDOM:
        raise MissingError("an untrained network knows no classes")
    place = place_of_weights("heads", name, weights)
    if kept := kept_of_weights(place):
        about, arrays = kept
        return ClassifierHead(arrays["weight"], arrays["bias"], **about)
    return _read_head(name, weights, place)


def _read_head(name: str, weights: str | None, place: Path) -> ClassifierHead:
    """The layer out of its weights; kept where their file is known."""
    from lib.backbones.backbone import read_classification_layer  # PyTorch: seconds to import

    weight, bias, digest, file = read_classification_layer(name, weights)
    head = ClassifierHead(weight, bias, class_names(len(bias)), digest)
    about = {"names": head.names, "weights_digest": digest}
    keep_of_weights(place, file, about, weight=weight, bias=bias)
    return head


def class_names(count: int) -> list[str]:
    """Names of the classes of an ImageNet classifier with this many, and of the kinds above them.

    Raises MissingError.
    """
    names = _own_names(count)
    if count == 1000:
        for kind, members in _KINDS.items():
            for member in members:
                first, last = member if isinstance(member, tuple) else (member, member)
                for index in range(first, last + 1):
                    names[index] += f", {kind}"
    return names


def _own_names(count: int) -> list[str]:
    try:
        from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
    except ImportError:
        subset = None
    else:
        subset = infer_imagenet_subset({"num_classes": count})
    if subset is not None:
        info = ImageNetInfo(subset)
        return [str(info.index_to_description(index)) for index in range(count)]
    if count == 1000:
        import torchvision

        return list(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
    raise MissingError(f"a classifier of {count} classes: what they are is not known here")
