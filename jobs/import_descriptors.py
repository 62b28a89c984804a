"""Import ready-made descriptors: from then on everything works without the images."""

import argparse

from jobs import command


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this job."""
    arguments = command.parser(
        "Take descriptors that another program made into a database, in place of extracting them.",
        "python -m jobs.import_descriptors resnet18_features.pkl --db course.db "
        "--captions captions_train2014.json",
        "--db --store-as",
    )
    arguments.add_argument(
        "file", metavar="FILE", help=".pkl (dict of image id → array), .npz, .npy or .parquet"
    )
    arguments.add_argument("--ids", metavar="FILE", help="the ids of a .npy file: .npy, or text")
    arguments.add_argument(
        "--captions",
        metavar="FILE",
        help="caption file of the images: gives the URLs that results link to",
    )
    arguments.add_argument(
        "--backbone", default="imported", metavar="NAME", help="the network that made them"
    )
    return arguments


def import_descriptors(options: argparse.Namespace) -> object:
    """Run the job; returns its summary."""
    from lib.descriptors.import_formats import read_descriptor_file
    from lib.descriptors.importing import import_descriptors as import_batches

    captions = command.load_captions(options.captions) if options.captions else None
    report = import_batches(
        read_descriptor_file(options.file, options.ids),
        options.db,
        captions,
        options.backbone,
        options.store_as,
    )
    command.note_all(report.notes)
    size = f" of {report.descriptor_size} values" if report.descriptor_size else ""
    print(
        f"{report.imported} descriptors{size} imported, "
        f"{report.already_described} were there already, {report.failed} failed"
        + ("; see DB/failures" if report.failed else "")
        + (f"; {report.repeated} came twice, the same" if report.repeated else "")
    )
    if report.without_caption:
        print(f"{report.without_caption} of them have no entry in {options.captions}: no link")
    return report


main = command.main(build_parser, import_descriptors)

if __name__ == "__main__":
    main()
