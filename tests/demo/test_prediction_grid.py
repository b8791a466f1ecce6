import cv2
import numpy as np
import torch

from prediction_grid import save_prediction_grid, surest_per_place

RED, GREEN = (200, 0, 0), (0, 200, 0)


def test_a_surer_box_hides_its_copies_of_any_class():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 5], [30, 30, 40, 40]], float)
    assert surest_per_place(boxes, np.array([0.5, 0.9, 0.8, 0.4])) == [1, 2, 3]
    assert surest_per_place(np.zeros((0, 4)), np.zeros(0)) == []


def test_grid_holds_every_image_and_only_sure_boxes(tmp_path):
    predictions = []
    for index, size in enumerate([(40, 60), (50, 30), (20, 20)]):
        path = tmp_path / f'{index}.png'
        cv2.imwrite(str(path), np.full((*size, 3), 90, np.uint8))
        found = dict(
            bboxes=torch.tensor([[4.0, 4.0, 16.0, 16.0], [2.0, 2.0, 18.0, 8.0]]),
            labels=torch.tensor([0, 1]),
            scores=torch.tensor([0.9, 0.1]),
        )
        predictions.append(dict(img_path=str(path), pred_instances=found))
    out = tmp_path / 'grid.png'
    save_prediction_grid(predictions, ('a', 'b'), (RED, GREEN), out, columns=2)
    grid = cv2.imread(str(out))
    # Cells of the largest height and width, at twice the size, with gaps of 4.
    assert grid.shape == (2 * (100 + 4), 2 * (120 + 4), 3)
    assert (grid == RED[::-1]).all(2).any()
    assert not (grid == GREEN[::-1]).all(2).any()
